"""Chooses the kind of adapter for a layer; the only place that does so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lib_pivotal.core.lora.adapter import Adapter
from lib_pivotal.core.lora.locon import Locon
from lib_pivotal.core.lora.lora import FusedLora

__all__ = ["NETWORK_MODULE", "adapter_for", "adapter_in_file"]

NETWORK_MODULE = "networks.lora"
"""Kohya's ``ss_network_module`` for all kinds here."""


def adapter_for(weight_shape: Sequence[int], rank: int, alpha: float) -> Adapter:
    """Create the adapter of a layer.

    Args:
        weight_shape: ``(out, in)`` or ``(out, in, kh, kw)``.
        rank: rank of the adapter.
        alpha: strength is alpha / rank.
    """
    shape = tuple(weight_shape)
    return Locon(shape, rank, alpha) if len(shape) > 2 else FusedLora(shape, rank, alpha)


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
