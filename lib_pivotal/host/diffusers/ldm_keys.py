"""Names of an SD1 checkpoint's tensors, LDM's and diffusers', both ways."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lib_pivotal.core.lora.naming import diffusers_to_ldm, ldm_to_diffusers

__all__ = ["PREFIXES", "codec_to_diffusers", "codec_to_ldm", "from_ldm", "to_ldm"]

PREFIXES = {
    "unet": "model.diffusion_model.",
    "codec": "first_stage_model.",
    "text": "cond_stage_model.transformer.",
}

_CODEC_LEVELS = 4

_CODEC_RENAMES = (
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


def codec_to_diffusers(path: str) -> str:
    """Diffusers path of a VAE module from its LDM path below ``first_stage_model``."""
    for ldm, ours in _CODEC_RENAMES:
        path = path.replace(ldm, ours)
    parts = path.split(".")
    if len(parts) > 1 and parts[1] == "down":
        kind = f"resnets.{parts[4]}" if parts[3] == "block" else "downsamplers.0"
        rest = parts[5:] if parts[3] == "block" else parts[4:]
        return ".".join([parts[0], "down_blocks", parts[2], kind, *rest])
    if len(parts) > 1 and parts[1] == "up":
        level = str(_CODEC_LEVELS - 1 - int(parts[2]))
        kind = f"resnets.{parts[4]}" if parts[3] == "block" else "upsamplers.0"
        rest = parts[5:] if parts[3] == "block" else parts[4:]
        return ".".join([parts[0], "up_blocks", level, kind, *rest])
    return path


def codec_to_ldm(path: str) -> str:
    """LDM path of a VAE module; the inverse of :func:`codec_to_diffusers`."""
    parts = path.split(".")
    if len(parts) > 2 and parts[1] in ("down_blocks", "up_blocks"):
        side = "down" if parts[1] == "down_blocks" else "up"
        level = parts[2] if side == "down" else str(_CODEC_LEVELS - 1 - int(parts[2]))
        if parts[3] == "resnets":
            path = ".".join([parts[0], side, level, "block", parts[4], *parts[5:]])
        else:
            path = ".".join([parts[0], side, level, f"{side}sample", *parts[5:]])
    for ldm, ours in _CODEC_RENAMES:
        path = path.replace(ours, ldm)
    return path


def from_ldm(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Split an SD1 checkpoint into ``unet``, ``codec`` and ``text`` state dicts under diffusers' names.

    Args:
        tensors: LDM key → tensor; other keys (schedule buffers, EMA) are left out.

    Raises:
        ValueError: a UNet key does not belong to SD1.
    """
    result: dict[str, dict[str, torch.Tensor]] = {"unet": {}, "codec": {}, "text": {}}
    for key, value in tensors.items():
        for part, prefix in PREFIXES.items():
            if key.startswith(prefix):
                name, tensor = _rename(part, key[len(prefix) :], value)
                result[part][name] = tensor
    return result


def _rename(part: str, name: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    if part == "text":
        return name, value
    path, _, leaf = name.rpartition(".")
    if part == "unet":
        return f"{ldm_to_diffusers(path)}.{leaf}", value
    path = codec_to_diffusers(path)
    # LDM's VAE attention is made of 1×1 convolutions, diffusers' of Linear layers.
    if ".attentions." in path and value.ndim == 4:
        value = value[:, :, 0, 0]
    return f"{path}.{leaf}", value


def to_ldm(
    unet: Mapping[str, torch.Tensor], codec: Mapping[str, torch.Tensor], text: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """One LDM checkpoint from diffusers state dicts; ``text`` keys begin with ``text_model.``."""
    tensors = {PREFIXES["text"] + name: value for name, value in text.items()}
    for name, value in unet.items():
        path, _, leaf = name.rpartition(".")
        tensors[f"{PREFIXES['unet']}{diffusers_to_ldm(path)}.{leaf}"] = value
    for name, value in codec.items():
        path, _, leaf = name.rpartition(".")
        is_attention = ".attentions." in path and value.ndim == 2
        tensors[f"{PREFIXES['codec']}{codec_to_ldm(path)}.{leaf}"] = value[:, :, None, None] if is_attention else value
    return tensors
