"""A bundle cannot be opened by diffusers; the LoRA that our tool splits off can."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from lib_pivotal.core.bundle.tools import split

LAYERS = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": (32, 32),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (32, 32),
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (32, 32),
}


def write_bundle(folder):
    lora = {}
    for layer, (wide, narrow) in LAYERS.items():
        lora[f"{layer}.lora_down.weight"] = torch.randn(2, wide)
        lora[f"{layer}.lora_up.weight"] = torch.randn(narrow, 2)
        lora[f"{layer}.alpha"] = torch.tensor(1.0)
    path = folder / "zog.safetensors"
    save_file({**lora, "bundle_emb.zog.string_to_param.*": torch.randn(2, 32)}, path, {"ss_network_dim": "2"})
    return path


def are_all_layers(state):
    return bool(state) and all("lora" in key for key in state)


def test_diffusers_reads_the_split_file_and_not_the_bundle(tmp_path):
    bundle = write_bundle(tmp_path)
    lora = split(bundle, tmp_path / "s").paths[0]
    state, alphas = StableDiffusionPipeline.lora_state_dict(str(lora))
    assert are_all_layers(state)
    assert {key.split(".")[0] for key in state} == {"unet", "text_encoder"}
    assert len(state) == 2 * len(LAYERS)
    assert len(alphas) == len(LAYERS)
    # This is what load_lora_weights looks at before it says "Invalid LoRA checkpoint".
    assert not are_all_layers(StableDiffusionPipeline.lora_state_dict(str(bundle))[0])


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="diffusers puts LoRAs into models by peft only")
def test_the_split_file_changes_the_unet(model, tmp_path):
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_config(model.unet.config)
    lora = split(write_bundle(tmp_path), tmp_path / "s").paths[0]
    state, alphas = StableDiffusionPipeline.lora_state_dict(str(lora))
    StableDiffusionPipeline.load_lora_into_unet(state, network_alphas=alphas, unet=unet)
    assert any("lora" in name for name, _ in unet.named_parameters())
