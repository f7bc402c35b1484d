"""GPU memory of a run: decide how to save it when it is short, and measure the peak."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lib_pivotal.core.families import Kept
from lib_pivotal.core.train.memory_estimate import (
    activation_bytes,
    encoding_bytes,
    graphs_fit,
    kept_that_fits,
    step_bytes,
)

__all__ = [
    "MemoryPlan",
    "encoding_batch",
    "free_bytes",
    "has_room_to_encode",
    "peak_bytes",
    "plan_memory",
    "watch_peak",
]


@dataclass(frozen=True)
class MemoryPlan:
    """How a run uses the device's memory.

    Attributes:
        needed: estimated bytes in addition to what is on the device before the run.
        free: free bytes before the run; None if unknown.
        saves: whether blocks are recomputed and idle networks are offloaded.
        kept: what the UNet's layers keep for the backward pass.
        swaps_text: whether trained text encoders are on the device only while they encode and in their own backward
            pass.
        activations: bytes of the UNet's activations among those needed.
        has_room_for_graphs: whether there is memory for steps that are recorded as CUDA graphs.
    """

    needed: int
    free: int | None
    saves: bool
    kept: Kept
    swaps_text: bool = False
    activations: int = 0
    has_room_for_graphs: bool = False

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
    weights: int = 0,
    text: int = 0,
) -> MemoryPlan:
    """Decide how a run uses the device's memory.

    Args:
        family: name of the model's family, see ``core.families``.
        device: the training device.
        mode: ``fast``, ``save``, or ``auto``. If ``fast`` is estimated to need nearly all that is free, ``auto`` first
            keeps less, which costs little time, and saves if that does not suffice.
        checkpoints: recompute activations in either mode, which also keeps less.
        trained_count: number of trained values.
        cells: number of latent cells of the largest image.
        batch_size: images per batch.
        weights: bytes of weights that are still to be moved to the device.
        text: bytes of the text encoders' weights if these are needed at every step, otherwise 0.
    """
    free = free_bytes(device)
    size = cells * batch_size

    def needed(kept: Kept, *, recomputes: bool = checkpoints) -> int:
        return weights + step_bytes(family, trained_count, size, recomputes=recomputes, kept=kept)

    kept = kept_that_fits(mode, free, needed)
    if kept is not None:
        activations = activation_bytes(family, size, recomputes=checkpoints, kept=kept)
        has_room = not checkpoints and (free is None or graphs_fit(needed(kept), activations, free))
        return MemoryPlan(
            needed(kept), free, saves=False, kept=kept, activations=activations, has_room_for_graphs=has_room
        )
    least = needed("least", recomputes=True)
    swaps_text = free is not None and least > free and text > 0
    if swaps_text:
        least -= min(text, activation_bytes(family, size, recomputes=True))
    return MemoryPlan(least, free, saves=True, kept="least", swaps_text=swaps_text)


def encoding_batch(device: torch.device, batch_size: int, cells: int, *, weights: int) -> int:
    """How many images to encode together: as many as fit into the free memory, but at least one.

    Args:
        device: where the VAE works.
        batch_size: largest number, used where it is not known how much is free.
        cells: latent cells of an image.
        weights: bytes of the VAE's weights that are still to be moved to the device.
    """
    free = free_bytes(device)
    if free is None:
        return batch_size
    return max(min(batch_size, (free - weights) // encoding_bytes(cells)), 1)


def has_room_to_encode(device: torch.device, cells: int, *, weights: int) -> bool:
    """Whether an image can be encoded next to what is on the device; True where it is not known how much is free.

    Args:
        device: where the VAE works.
        cells: latent cells of the image.
        weights: bytes of the VAE's weights that are still to be moved to the device.
    """
    free = free_bytes(device)
    return free is None or encoding_bytes(cells) + weights <= free


def free_bytes(device: torch.device) -> int | None:
    """GPU memory in bytes that a run can use, including torch's cache; None for other devices."""
    if device.type != "cuda":
        return None
    # Before 2.9, torch answers only for a device with an index, which that of a webui lacks.
    index = torch.cuda.current_device() if device.index is None else device.index
    free, _total = torch.cuda.mem_get_info(index)
    return int(free) + torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)


def watch_peak(device: torch.device) -> None:
    """Reset the peak memory counter."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device, *, has_graphs: bool = False) -> int | None:
    """Peak bytes in use since :func:`watch_peak`, including the model's weights; None if unknown.

    Args:
        device: the training device.
        has_graphs: whether steps were recorded as CUDA graphs, whose memory counts only as reserved.
    """
    if device.type != "cuda":
        return None
    return int(torch.cuda.max_memory_reserved(device) if has_graphs else torch.cuda.max_memory_allocated(device))
