"""Decides which layers of a model can have an adapter, and which of them get one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lib_pivotal.core.lora.naming import kohya_key, role_of
from lib_pivotal.core.ports import LoraTarget

__all__ = ["choose_targets", "is_lora_layer", "lora_target", "reads_text"]

_BLOCK_ROLES = ("attention", "feed_forward")
_CROSS_KV = ("_attn2_to_k", "_attn2_to_v")
_CONV_ROLES = ("conv", "projection")
"""The projections around a transformer block are 1×1 convolutions in SD1."""


def choose_targets(
    targets: Sequence[LoraTarget],
    *,
    rank: int,
    conv_rank: int,
    text_encoder_rank: int,
    layers: str = "blocks",
    block_layers: Mapping[str, str] = MappingProxyType({}),
    unread_layers: tuple[str, ...] = (),
) -> list[tuple[LoraTarget, int]]:
    """Choose the layers that get an adapter, each with its rank; rank 0 excludes a kind of layer.

    Args:
        targets: all layers of the model.
        rank: rank for those of the UNet's attention and feed-forward layers that ``layers`` names.
        conv_rank: rank for the UNet's convolutions.
        text_encoder_rank: rank for the text encoders' attention and feed-forward layers.
        layers: the setting ``lora_layers``: ``blocks`` (all), ``attention``, ``cross_kv`` (keys and values of
            cross-attention), or one of ``block_layers``.
        block_layers: those of the model's family, see ``core.families``.
        unread_layers: likewise.

    Source: Kumari et al. 2023, https://arxiv.org/abs/2212.04488, for ``cross_kv``.
    """
    chosen = []
    for target in targets:
        if target.part != "unet":
            is_read = not target.key.startswith(unread_layers)
            own = text_encoder_rank if is_read and target.role in _BLOCK_ROLES else 0
        elif target.role in _BLOCK_ROLES:
            own = rank if rank and _is_among(target, layers, block_layers) else 0
        else:
            own = conv_rank if target.role in _CONV_ROLES else 0
        if own:
            chosen.append((target, own))
    return chosen


def _is_among(target: LoraTarget, layers: str, block_layers: Mapping[str, str]) -> bool:
    """Whether an attention or feed-forward layer belongs to a choice of layers."""
    if layers == "attention":
        return target.role == "attention"
    if layers == "cross_kv":
        return target.key.endswith(_CROSS_KV)
    return layers == "blocks" or target.key.startswith(block_layers[layers])


def reads_text(target: LoraTarget) -> bool:
    """Whether the inputs of a layer are the tokens of the text: in text encoders, and in cross-attention."""
    return target.part != "unet" or target.key.endswith(_CROSS_KV)


def is_lora_layer(module: Any) -> bool:
    """Whether a module is a Linear layer or a 2D convolution with its own weight.

    Judged by attributes, because hosts and extensions have their own Linear and convolution classes. The weight is
    looked up among the registered parameters, because a property named ``weight`` may be another module's weight.
    """
    weight = module.__dict__.get("_parameters", {}).get("weight")
    if weight is None:
        return False
    is_linear = weight.ndim == 2 and hasattr(module, "in_features")
    return is_linear or (weight.ndim == 4 and hasattr(module, "in_channels"))


def lora_target(part: str, path: str, module: Any, family: str) -> LoraTarget:
    """Describe a layer for the engine.

    Args:
        part: ``"unet"`` or the encoder's name.
        path: diffusers path below the UNet, or transformers' path of a text encoder's layer beginning with
            ``text_model.``.
        module: the live layer.
        family: name of the model's family, see ``core.families``.

    Raises:
        ValueError: the family does not have this part, or its UNet does not have this path.
    """
    kernel = module.weight.shape[-1] if module.weight.ndim == 4 else 1
    return LoraTarget(kohya_key(part, path, family), part, role_of(path, kernel), module)
