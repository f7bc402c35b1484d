"""Chooses the kind of adapter for a layer; the only place that does so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lib_pivotal.core.lora.adapter import Adapter
from lib_pivotal.core.lora.locon import Locon
from lib_pivotal.core.lora.lora import FusedLora, Lora

__all__ = ["NETWORK_MODULE", "adapter_for", "adapter_in_file"]

NETWORK_MODULE = "networks.lora"
"""Kohya's ``ss_network_module`` for all kinds here."""


def adapter_for(weight_shape: Sequence[int], rank: int, alpha: float, *, is_fused: bool = True) -> Adapter:
    """Create the adapter of a layer.

    Args:
        weight_shape: ``(out, in)`` or ``(out, in, kh, kw)``.
        rank: rank of the adapter.
        alpha: strength is alpha / rank.
        is_fused: whether to use the faster custom backward pass if there is one; False uses plain autograd.
    """
    shape = tuple(weight_shape)
    if len(shape) > 2:
        return Locon(shape, rank, alpha)
    return FusedLora(shape, rank, alpha) if is_fused else Lora(shape, rank, alpha)


def adapter_in_file(weight_shape: Sequence[int], tensors: Mapping[str, torch.Tensor]) -> Adapter | None:
    """The adapter for a layer's tensors in a file, or None if the file has none.

    Args:
        weight_shape: see :func:`adapter_for`.
        tensors: suffix of the key → tensor.
    """
    down = tensors.get("lora_down.weight")
    if down is None:
        return None
    rank = int(down.shape[0])
    alpha = tensors.get("alpha")
    return adapter_for(weight_shape, rank, float(alpha) if alpha is not None else float(rank))
