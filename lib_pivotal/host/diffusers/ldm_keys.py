"""Names of a checkpoint's tensors: from LDM's to diffusers' and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lib_pivotal.core.lora.naming import diffusers_to_ldm, ldm_to_diffusers, open_clip_to_hf

__all__ = [
    "PREFIXES",
    "open_clip_state",
    "open_clip_width",
    "parts_with",
    "to_ldm",
    "unet_state",
]

PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text": "cond_stage_model.transformer.",
}

_VAE_LEVELS = 4

_VAE_RENAMES = (
    ("nin_shortcut", "conv_shortcut"),
    ("mid.block_1", "mid_block.resnets.0"),
    ("mid.block_2", "mid_block.resnets.1"),
    ("mid.attn_1.norm", "mid_block.attentions.0.group_norm"),
    ("mid.attn_1.q", "mid_block.attentions.0.to_q"),
    ("mid.attn_1.k", "mid_block.attentions.0.to_k"),
    ("mid.attn_1.v", "mid_block.attentions.0.to_v"),
    ("mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0"),
    ("norm_out", "conv_norm_out"),
)


def _vae_to_ldm(path: str) -> str:
    """LDM path of a VAE module, below ``first_stage_model``, from its diffusers path."""
    parts = path.split(".")
    if len(parts) > 2 and parts[1] in ("down_blocks", "up_blocks"):
        side = "down" if parts[1] == "down_blocks" else "up"
        level = parts[2] if side == "down" else str(_VAE_LEVELS - 1 - int(parts[2]))
        if parts[3] == "resnets":
            path = ".".join([parts[0], side, level, "block", parts[4], *parts[5:]])
        else:
            path = ".".join([parts[0], side, level, f"{side}sample", *parts[5:]])
    for ldm, ours in _VAE_RENAMES:
        path = path.replace(ours, ldm)
    return path


def parts_with(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors below a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def unet_state(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The UNet of an SD1, SD2 or SDXL checkpoint under diffusers' names.

    Args:
        tensors: LDM key → tensor.

    Raises:
        ValueError: a UNet key does not belong to any of them.
    """
    state = {}
    for name, value in parts_with(tensors, PREFIXES["unet"]).items():
        path, _, leaf = name.rpartition(".")
        state[f"{ldm_to_diffusers(path)}.{leaf}"] = value
    return state


_OPEN_CLIP = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}


def open_clip_width(tensors: Mapping[str, torch.Tensor]) -> tuple[int, int, int]:
    """Width, number of layers and width of the projection of an open_clip text encoder."""
    width = int(tensors["token_embedding.weight"].shape[1])
    layers = len({key.split(".")[2] for key in tensors if key.startswith("transformer.resblocks.")})
    projection = tensors.get("text_projection")
    return width, layers, width if projection is None else int(projection.shape[1])


def open_clip_state(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An open_clip text encoder under transformers' names.

    Args:
        tensors: open_clip's name → tensor; tensors that are not part of a text encoder are left out.

    Raises:
        ValueError: a layer has a part that these encoders do not have.
    """
    state = {new: tensors[old] for old, new in _OPEN_CLIP.items() if old in tensors}
    if "text_projection" in tensors:
        state["text_projection.weight"] = tensors["text_projection"].t()
    for name, value in tensors.items():
        if not name.startswith("transformer.resblocks."):
            continue
        path, _, leaf = name.rpartition(".")
        if leaf.startswith("in_proj_"):
            for part, third in zip("qkv", value.chunk(3), strict=True):
                state[f"{open_clip_to_hf(f'{path}.{part}')}.{leaf.removeprefix('in_proj_')}"] = third
        else:
            state[f"{open_clip_to_hf(path)}.{leaf}"] = value
    return state


def to_ldm(
    unet: Mapping[str, torch.Tensor],
    vae: Mapping[str, torch.Tensor],
    text: Mapping[str, torch.Tensor],
    family: str,
) -> dict[str, torch.Tensor]:
    """One LDM checkpoint from diffusers state dicts.

    Args:
        unet: of diffusers' UNet.
        vae: of diffusers' VAE.
        text: of SD1's text encoder, with keys beginning with ``text_model.``; empty for other families.
        family: name of the model's family, see ``core.families``.
    """
    tensors = {PREFIXES["text"] + name: value for name, value in text.items()}
    for name, value in unet.items():
        path, _, leaf = name.rpartition(".")
        tensors[f"{PREFIXES['unet']}{diffusers_to_ldm(path, family)}.{leaf}"] = value
    for name, value in vae.items():
        path, _, leaf = name.rpartition(".")
        is_attention = ".attentions." in path and value.ndim == 2
        tensors[f"{PREFIXES['vae']}{_vae_to_ldm(path)}.{leaf}"] = value[:, :, None, None] if is_attention else value
    return tensors
