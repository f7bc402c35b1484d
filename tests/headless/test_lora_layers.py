"""Which layers of full-size models each choice of layers trains, for every family."""

from __future__ import annotations

import re
from collections.abc import Callable

import diffusers
import pytest
import torch

from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.targets import choose_targets, is_lora_layer, lora_target
from lib_pivotal.host.diffusers.shapes import unet_params, unet_shape
from lib_pivotal.host.diffusers.standard import standard_config

ATTENTION = r"attn[12]_(to_[qkv]|to_out_0)"
PATTERNS = {
    "blocks": rf".*_transformer_blocks_\d+_({ATTENTION}|ff_net_(0_proj|2))",
    "attention": rf".*_transformer_blocks_\d+_{ATTENTION}",
    "cross_kv": r".*_transformer_blocks_\d+_attn2_to_[kv]",
    "content": rf"lora_unet_output_blocks_0_1_transformer_blocks_\d+_({ATTENTION}|ff_net_(0_proj|2))",
    "style": rf"lora_unet_output_blocks_1_1_transformer_blocks_\d+_({ATTENTION}|ff_net_(0_proj|2))",
}
COUNTS = {
    # 16 transformer blocks of SD1 and SD2, and 70 of SDXL: 10 in each attention of its lowest level.
    "sd1": {"blocks": 160, "attention": 128, "cross_kv": 32},
    "sd2": {"blocks": 160, "attention": 128, "cross_kv": 32},
    "sdxl": {"blocks": 700, "attention": 560, "cross_kv": 140, "content": 100, "style": 100},
}


@pytest.fixture(scope="module")
def keys() -> Callable[..., set[str]]:
    """Kohya keys that a choice of layers and ranks trains in the full-size UNet of a family."""
    targets = {}
    for family in COUNTS:
        shape = unet_shape(unet_params(standard_config(family)["model"]["params"]))
        with torch.device("meta"):
            unet = diffusers.UNet2DConditionModel.from_config(shape)
        modules = [(path, module) for path, module in unet.named_modules() if is_lora_layer(module)]
        targets[family] = [lora_target("unet", path, module, family) for path, module in modules]

    def chosen(family: str, **choice: object) -> set[str]:
        ranks = {"rank": 4, "conv_rank": 0, "text_encoder_rank": 0, **choice}
        return {
            target.key
            for target, _ in choose_targets(targets[family], block_layers=FAMILIES[family].block_layers, **ranks)
        }

    return chosen


@pytest.mark.parametrize(("family", "layers"), [(family, layers) for family in COUNTS for layers in COUNTS[family]])
def test_exactly_these_layers(keys, family, layers):
    found = keys(family, layers=layers)
    assert len(found) == COUNTS[family][layers]
    every = keys(family, layers="blocks")
    assert found == {key for key in every if re.fullmatch(PATTERNS[layers], key)}


@pytest.mark.parametrize("family", COUNTS)
def test_without_a_rank_no_choice_of_layers_matters(keys, family):
    assert keys(family, rank=0, layers="style") == set()


@pytest.mark.parametrize("family", COUNTS)
def test_convolutions_have_their_own_rank(keys, family):
    convolutions = keys(family, rank=0, conv_rank=4, layers="cross_kv")
    assert convolutions and not convolutions & keys(family, layers="blocks")
    assert keys(family, conv_rank=4, layers="cross_kv") == convolutions | keys(family, layers="cross_kv")
