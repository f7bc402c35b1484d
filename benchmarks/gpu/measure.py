"""Time and peak memory of a step."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["Figures", "measure", "release"]


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        ms: milliseconds per step, median of the rounds.
        peak: peak of allocated bytes, weights included; 0 without a GPU.
        held: allocated bytes between steps, weights included; 0 without a GPU.
    """

    ms: float
    peak: int
    held: int


def measure(step: Callable[[], object], device: torch.device, *, warm_up: int, rounds: int, steps: int) -> Figures:
    """Measure a step.

    Args:
        step: runs one.
        device: where it runs.
        warm_up: steps before measuring.
        rounds: number of measurements.
        steps: steps per measurement.
    """
    for _ in range(warm_up):
        step()
    synchronize(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize(device)
        seconds.append((time.perf_counter() - started) / steps)
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else 0
    held = torch.cuda.memory_allocated(device) if on_gpu else 0
    return Figures(1000 * statistics.median(seconds), peak, held)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release() -> None:
    """Give back the memory of what is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
