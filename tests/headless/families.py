"""Random models of SD2 with velocity and of SDXL, small, as webui checkpoints and as diffusers folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lib_pivotal.host.diffusers.ldm_keys import to_ldm
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer
from tests.headless.small import SMALL_TEXT, SmallModel

__all__ = ["open_clip_names", "write_sd2", "write_sdxl"]

_FIRST_STAGE = """\
    first_stage_config:
      params:
        embed_dim: 4
        ddconfig: {z_channels: 4, resolution: 64, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1, 2, 2],
                   num_res_blocks: 1, attn_resolutions: []}
"""

_SD2 = """\
model:
  params:
    linear_start: 0.00085
    linear_end: 0.012
    timesteps: 1000
    scale_factor: 0.18215
    parameterization: v
    unet_config:
      params: {image_size: 8, in_channels: 4, out_channels: 4, model_channels: 32, attention_resolutions: [4, 2, 1],
               num_res_blocks: 2, channel_mult: [1, 1, 2, 2], num_head_channels: 16, transformer_depth: 1,
               use_linear_in_transformer: true, context_dim: 64}
    cond_stage_config:
      params: {layer: penultimate}
"""

_SDXL = """\
model:
  params:
    scale_factor: 0.13025
    network_config:
      params: {image_size: 8, in_channels: 4, out_channels: 4, model_channels: 32, attention_resolutions: [4, 2],
               num_res_blocks: 2, channel_mult: [1, 2, 2], num_head_channels: 16, transformer_depth: [1, 2, 3],
               use_linear_in_transformer: true, context_dim: 96, adm_in_channels: 1600, num_classes: sequential}
    conditioner_config:
      params:
        emb_models:
          - params: {version: text, layer: hidden, layer_idx: 2}
          - params: {layer: penultimate}
"""


def _vae(scale: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        sample_size=64,
        scaling_factor=scale,
    )


def _open_clip_config(layers: int) -> dict[str, Any]:
    """Heads of 64, as in every encoder of open_clip that Stable Diffusion uses."""
    width = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 1, "projection_dim": 64}
    return {**SMALL_TEXT, **width, "num_hidden_layers": layers, "hidden_act": "gelu", "pad_token_id": 0}


def open_clip_names(model: Any) -> dict[str, torch.Tensor]:
    """A text encoder of transformers under open_clip's names."""
    state = {name.removeprefix("text_model."): value for name, value in model.state_dict().items()}
    named = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
    }
    if "text_projection.weight" in state:
        named["text_projection"] = state["text_projection.weight"].t()
    renames = (("self_attn.out_proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
               ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"))  # fmt: skip
    for number in range(model.config.num_hidden_layers):
        old, new = f"encoder.layers.{number}.", f"transformer.resblocks.{number}."
        for end in ("weight", "bias"):
            thirds = [state[f"{old}self_attn.{part}_proj.{end}"] for part in "qkv"]
            named[f"{new}attn.in_proj_{end}"] = torch.cat(thirds)
            for theirs, ours in renames:
                named[f"{new}{ours}.{end}"] = state[f"{old}{theirs}.{end}"]
    return named


def _write(where: Path, tensors: dict[str, torch.Tensor], text: str) -> Path:
    file = where / "small.safetensors"
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, file)
    file.with_suffix(".yaml").write_text(text + _FIRST_STAGE)
    return file


def _save_folder(folder: Path, parts: dict[str, Any], prediction: str) -> Path:
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    write_tokenizer(folder / "tokenizer")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction
    ).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def write_sd2(where: Path) -> SmallModel:
    """SD2 with velocity: one open_clip encoder, Linear projections in the UNet."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=64,
        attention_head_dim=(2, 2, 4, 4),
        use_linear_projection=True,
    )
    vae, text = _vae(0.18215), CLIPTextModel(CLIPTextConfig(**_open_clip_config(3)))
    tensors = to_ldm(unet.state_dict(), vae.state_dict(), {}, "sd2")
    tensors.update({f"cond_stage_model.model.{name}": value for name, value in open_clip_names(text).items()})
    file = _write(where, tensors, _SD2)
    # Folders hold the encoder without the layer that is not used.
    shorter = CLIPTextModel(CLIPTextConfig(**_open_clip_config(2)))
    shorter.load_state_dict(text.state_dict(), strict=False)
    return SmallModel(
        file, _save_folder(where / "folder", {"unet": unet, "vae": vae, "text_encoder": shorter}, "v_prediction")
    )


def write_sdxl(where: Path) -> SmallModel:
    """SDXL: both encoders, and the vector of sizes and pooled text."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=96,
        attention_head_dim=(2, 4, 4),
        transformer_layers_per_block=(1, 2, 3),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=64 + 6 * 256,
    )
    vae = _vae(0.13025)
    first = CLIPTextModel(CLIPTextConfig(**SMALL_TEXT))
    second = CLIPTextModelWithProjection(CLIPTextConfig(**_open_clip_config(3)))
    tensors = to_ldm(unet.state_dict(), vae.state_dict(), {}, "sdxl")
    for name, value in first.state_dict().items():
        full = name if name.startswith("text_model.") else f"text_model.{name}"
        tensors[f"conditioner.embedders.0.transformer.{full}"] = value
    tensors.update({f"conditioner.embedders.1.model.{name}": value for name, value in open_clip_names(second).items()})
    file = _write(where, tensors, _SDXL)
    write_tokenizer(where / "text")
    (where / "text" / "config.json").write_text(json.dumps(SMALL_TEXT))
    parts = {"unet": unet, "vae": vae, "text_encoder": first, "text_encoder_2": second}
    return SmallModel(file, _save_folder(where / "folder", parts, "epsilon"))
