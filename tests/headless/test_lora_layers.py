"""Which layers of full-size models each choice of layers trains, for every family."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import diffusers
import pytest
import torch
import transformers

from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.targets import choose_targets, is_lora_layer, lora_target
from lib_pivotal.core.ports import LoraTarget
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


CONVOLUTIONS = {
    # Of residual blocks: two convolutions, a Linear layer and perhaps a shortcut; two projections around each attention.
    "sd1": {"layers": 120, "linear": 22},
    "sd2": {"layers": 120, "linear": 54},
    "sdxl": {"layers": 90, "linear": 39},
}
TEXT_DEPTHS = {"sd1": [12], "sd2": [24], "sdxl": [12, 32]}
"""Blocks of each text encoder, as checkpoints have them."""
TEXT = {"sd1": {"te": 72}, "sd2": {"te": 138}, "sdxl": {"te1": 72, "te2": 192}}
"""Layers of each text encoder: four of attention and two of feed-forward in each block that is read."""


def text_targets(part: str, block_count: int, family: str) -> list[LoraTarget]:
    """The layers of a narrow text encoder."""
    shape = transformers.CLIPTextConfig(hidden_size=8, intermediate_size=8, num_attention_heads=1,
                                        num_hidden_layers=block_count)  # fmt: skip
    with torch.device("meta"):
        modules = dict(transformers.CLIPTextModel(shape).named_modules())
    return [
        lora_target(part, f"text_model.{path.removeprefix('text_model.')}", module, family)
        for path, module in modules.items()
        if is_lora_layer(module)
    ]


@pytest.fixture(scope="module")
def keys() -> Callable[..., dict[str, torch.nn.Module]]:
    """Kohya keys that a choice of layers and ranks trains in the full-size model of a family → layers."""
    targets = {}
    for family in COUNTS:
        shape = unet_shape(unet_params(standard_config(family)["model"]["params"]))
        with torch.device("meta"):
            unet = diffusers.UNet2DConditionModel.from_config(shape)
        modules = [(path, module) for path, module in unet.named_modules() if is_lora_layer(module)]
        targets[family] = [lora_target("unet", path, module, family) for path, module in modules]
        for encoder, count in zip(FAMILIES[family].text_encoders, TEXT_DEPTHS[family], strict=True):
            targets[family] += text_targets(encoder.name, count, family)

    def chosen(family: str, **choice: object) -> dict[str, torch.nn.Module]:
        ranks = {"rank": 4, "conv_rank": 0, "text_encoder_rank": 0, **choice}
        blocks, unread = FAMILIES[family].block_layers, FAMILIES[family].unread_layers
        found = choose_targets(targets[family], block_layers=blocks, unread_layers=unread, **ranks)
        return {target.key: target.module for target, _ in found}

    return chosen


@pytest.mark.parametrize(("family", "layers"), [(family, layers) for family in COUNTS for layers in COUNTS[family]])
def test_exactly_these_layers(keys, family, layers):
    found = keys(family, layers=layers)
    assert len(found) == COUNTS[family][layers]
    every = keys(family, layers="blocks")
    assert set(found) == {key for key in every if re.fullmatch(PATTERNS[layers], key)}


@pytest.mark.parametrize("family", COUNTS)
def test_without_a_rank_no_choice_of_layers_matters(keys, family):
    assert keys(family, rank=0, layers="style") == {}


@pytest.mark.parametrize("family", COUNTS)
def test_convolutions_have_their_own_rank(keys, family):
    convolutions = keys(family, rank=0, conv_rank=4, layers="cross_kv")
    assert not convolutions.keys() & keys(family, layers="blocks").keys()
    assert keys(family, conv_rank=4, layers="cross_kv") == convolutions | keys(family, layers="cross_kv")
    linear = [key for key, module in convolutions.items() if isinstance(module, torch.nn.Linear)]
    assert {"layers": len(convolutions), "linear": len(linear)} == CONVOLUTIONS[family]
    assert all(re.fullmatch(r".*(_emb_layers_1|_time_emb_proj|_proj_in|_proj_out)", key) for key in linear)


@pytest.mark.parametrize("family", COUNTS)
def test_text_encoders_have_their_own_rank(keys, family):
    found = keys(family, rank=0, text_encoder_rank=4)
    assert Counter(key.split("_")[1] for key in found) == TEXT[family]
    assert all("_text_model_encoder_layers_" in key for key in found)
