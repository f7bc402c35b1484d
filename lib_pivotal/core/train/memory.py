"""GPU memory of a run: estimate it, decide how to save it when it is short, and measure the peak."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lib_pivotal.core.families import FAMILIES

__all__ = ["MemoryPlan", "free_bytes", "peak_bytes", "plan_memory", "watch_peak"]

_TRANSIENT_KIB = 92
"""KiB of gradients and workspaces at the peak of the backward pass, per latent cell and image.

Source: ``python run.py gpu`` on an NVIDIA H200, fp16: 71 for SD1 at 512 px, 91 for SDXL at 1024 px.
"""
_TRANSIENT_CHECKPOINTED_KIB = 40
"""The same with gradient checkpointing, where blocks are recomputed; 36 for SD1, 25 for SDXL."""
_TRAINED_BYTES = 16
"""fp32 value, gradient and AdamW's two moments, per trained value."""
_WORKSPACE = 256 * 2**20
"""Latents and other small tensors, and a margin, since peaks differ between GPUs."""


@dataclass(frozen=True)
class MemoryPlan:
    """How a run uses the device's memory.

    Attributes:
        needed: estimated bytes in addition to the loaded model.
        free: free bytes before the run; None if unknown.
        keeps_less: whether the UNet's convolutions and group norms keep less for the backward pass.
        saves: whether blocks are recomputed and idle networks are offloaded.
    """

    needed: int
    free: int | None
    saves: bool
    keeps_less: bool = False

    @property
    def is_short(self) -> bool:
        """Whether memory may run out even with this plan."""
        return self.free is not None and self.needed > self.free


def plan_memory(
    family: str,
    device: torch.device,
    *,
    mode: str,
    checkpoints: bool,
    trained_count: int,
    cells: int,
    batch_size: int,
) -> MemoryPlan:
    """Decide how a run uses the device's memory.

    Args:
        family: name of the model's family, see ``core.families``.
        device: the training device.
        mode: ``fast``, ``save``, or ``auto``. If ``fast`` is estimated to need more than is free, ``auto`` first keeps
            less, which costs little time, and saves if that does not suffice.
        checkpoints: recompute activations in either mode, which also keeps less.
        trained_count: number of trained values.
        cells: number of latent cells of the largest image.
        batch_size: images per batch.
    """
    free = free_bytes(device)
    size = cells * batch_size
    fast = _needed(family, trained_count, size, checkpoints=checkpoints)
    leaner = _needed(family, trained_count, size, checkpoints=checkpoints, keeps_less=True)
    limit = free if mode == "auto" and free is not None else None
    if mode == "save" or (limit is not None and leaner > limit):
        needed = _needed(family, trained_count, size, checkpoints=True, keeps_less=True)
        return MemoryPlan(needed, free, saves=True, keeps_less=True)
    if limit is not None and fast > limit:
        return MemoryPlan(leaner, free, saves=False, keeps_less=True)
    return MemoryPlan(fast, free, saves=False)


def _needed(family: str, trained_count: int, cells: int, *, checkpoints: bool, keeps_less: bool = False) -> int:
    kind = FAMILIES[family]
    if checkpoints:
        per_cell = kind.checkpointed_activation_kib + _TRANSIENT_CHECKPOINTED_KIB
    else:
        per_cell = (kind.lean_activation_kib if keeps_less else kind.activation_kib) + _TRANSIENT_KIB
    return int(trained_count * _TRAINED_BYTES + cells * per_cell * 1024 + _WORKSPACE)


def free_bytes(device: torch.device) -> int | None:
    """GPU memory in bytes that a run can use, including torch's cache; None for other devices."""
    if device.type != "cuda":
        return None
    free, _total = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def watch_peak(device: torch.device) -> None:
    """Reset the peak memory counter."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int | None:
    """Peak bytes in use since :func:`watch_peak`, including the model's weights; None if unknown."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None
