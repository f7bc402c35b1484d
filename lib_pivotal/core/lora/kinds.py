"""Chooses the kind of adapter for a layer; the only place that does so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lib_pivotal.core.lora.adapter import Adapter
from lib_pivotal.core.lora.dora import MAGNITUDES, Dora
from lib_pivotal.core.lora.locon import Locon
from lib_pivotal.core.lora.loha import FusedLoha
from lib_pivotal.core.lora.lokr import Lokr
from lib_pivotal.core.lora.lora import FusedLora

__all__ = ["adapter_for", "adapter_in_file", "network_module"]


def network_module(kind: str) -> str:
    """Kohya's ``ss_network_module`` for a kind, see :func:`adapter_for`."""
    return "networks.lora" if kind == "lora" else "lycoris.kohya"


def adapter_for(
    weight_shape: Sequence[int], rank: int, alpha: float, *, kind: str = "lora", lokr_factor: int = 0
) -> Adapter:
    """Create the adapter of a layer.

    Args:
        weight_shape: ``(out, in)`` or ``(out, in, kh, kw)``.
        rank: rank of the adapter; LoKr has none.
        alpha: strength is alpha / rank; LoKr and DoRA always have strength 1.
        kind: ``lora``, ``loha``, ``lokr`` or ``dora``.
        lokr_factor: see :func:`lib_pivotal.core.lora.lokr.factorized`.
    """
    shape = tuple(weight_shape)
    if kind == "lokr":
        return Lokr.with_factor(shape, lokr_factor)
    if kind == "dora":
        return Dora(shape, rank)
    if kind == "loha":
        return FusedLoha(shape, rank, alpha)
    return Locon(shape, rank, alpha) if len(shape) > 2 else FusedLora(shape, rank, alpha)


def adapter_in_file(weight_shape: Sequence[int], tensors: Mapping[str, torch.Tensor]) -> Adapter | None:
    """The adapter for a layer's tensors in a file, or None if the file has none of a kind that is trained here.

    Args:
        weight_shape: see :func:`adapter_for`.
        tensors: suffix of the key → tensor.
    """
    if MAGNITUDES in tensors:
        down = tensors.get("lora_down.weight")
        return None if down is None else Dora(tuple(weight_shape), int(down.shape[0]))
    small = tensors.get("lokr_w1")
    if small is not None and small.ndim == 2:
        rows, columns = small.shape
        return Lokr(tuple(weight_shape), (int(rows), int(columns)))
    kind, rank_key = ("loha", "hada_w1_b") if "hada_w1_b" in tensors else ("lora", "lora_down.weight")
    if rank_key not in tensors:
        return None
    rank = int(tensors[rank_key].shape[0])
    return adapter_for(weight_shape, rank, float(tensors.get("alpha", rank)), kind=kind)
