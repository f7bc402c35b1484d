"""A random SD1 model of one million parameters, as a webui checkpoint and as a diffusers folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from lib_pivotal.host.diffusers.ldm_keys import to_ldm
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer

__all__ = ["SMALL_TEXT", "SmallModel", "write_small_model"]

SMALL_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
    "projection_dim": 32,
}

_YAML = """\
model:
  params:
    linear_start: 0.00085
    linear_end: 0.012
    timesteps: 1000
    scale_factor: 0.18215
    unet_config:
      params:
        image_size: 8
        in_channels: 4
        out_channels: 4
        model_channels: 32
        attention_resolutions: [4, 2, 1]
        num_res_blocks: 2
        channel_mult: [1, 1, 2, 2]
        num_heads: 4
        transformer_depth: 1
        context_dim: 32
    first_stage_config:
      params:
        embed_dim: 4
        ddconfig:
          z_channels: 4
          resolution: 64
          in_channels: 3
          out_ch: 3
          ch: 32
          ch_mult: [1, 1, 2, 2]
          num_res_blocks: 1
          attn_resolutions: []
    cond_stage_config:
      params:
        version: text
"""


@dataclass(frozen=True)
class SmallModel:
    """The same weights twice: ``file`` with its yaml beside it, and ``folder``."""

    file: Path
    folder: Path


def write_small_model(where: Path) -> SmallModel:
    """Write both forms below ``where``."""
    torch.manual_seed(0)
    widths = (32, 32, 64, 64)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=widths,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=32,
        attention_head_dim=4,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=4,
        sample_size=64,
        scaling_factor=0.18215,
    )
    text_model = CLIPTextModel(CLIPTextConfig(**SMALL_TEXT))
    text = {
        name if name.startswith("text_model.") else f"text_model.{name}": v
        for name, v in text_model.state_dict().items()
    }
    file = where / "small.safetensors"
    tensors = to_ldm(unet.state_dict(), vae.state_dict(), text, "sd1")
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    file.with_suffix(".yaml").write_text(_YAML)
    for tokenizer in (where / "text", where / "folder" / "tokenizer"):
        write_tokenizer(tokenizer)
    (where / "text" / "config.json").write_text(json.dumps(SMALL_TEXT))

    folder = where / "folder"
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text_model.save_pretrained(folder / "text_encoder")
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(
        folder / "scheduler"
    )
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return SmallModel(file, folder)
