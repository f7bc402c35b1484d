"""Which kind of adapter a layer gets: the one place where kinds are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lib_pivotal.core.lora.adapter import Adapter
from lib_pivotal.core.lora.locon import Locon
from lib_pivotal.core.lora.lora import FusedLora, Lora

__all__ = ["NETWORK_MODULE", "adapter_for", "adapter_in_file"]

NETWORK_MODULE = "networks.lora"
"""Kohya's ``ss_network_module`` for the kinds that exist."""


def adapter_for(weight_shape: Sequence[int], rank: int, alpha: float, *, is_fused: bool = True) -> Adapter:
    """The adapter of a layer.

    Args:
        weight_shape: ``(out, in)`` or ``(out, in, kh, kw)``.
        rank: its rank.
        alpha: strength is alpha / rank.
        is_fused: use the faster backward pass where there is one; False leaves all to autograd.
    """
    shape = tuple(weight_shape)
    if len(shape) > 2:
        return Locon(shape, rank, alpha)
    return FusedLora(shape, rank, alpha) if is_fused else Lora(shape, rank, alpha)


def adapter_in_file(weight_shape: Sequence[int], tensors: Mapping[str, torch.Tensor]) -> Adapter | None:
    """The adapter that a file holds for a layer, or None.

    Args:
        weight_shape: as in :func:`adapter_for`.
        tensors: end of the key → tensor.
    """
    down = tensors.get("lora_down.weight")
    if down is None:
        return None
    rank = int(down.shape[0])
    alpha = tensors.get("alpha")
    return adapter_for(weight_shape, rank, float(alpha) if alpha is not None else float(rank))
