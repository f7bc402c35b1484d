"""Where a training step makes the CPU wait for the GPU, and how busy it keeps the GPU."""

from __future__ import annotations

import re
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ["busy_share", "waits_per_step"]

_ROOT = Path(__file__).resolve().parents[2]


def waits_per_step(step: Callable[[], object], steps: int) -> dict[str, float]:
    """Synchronizing calls per step, by the line of Python that made them.

    Args:
        step: runs one step.
        steps: how many to run.
    """
    found: Counter[str] = Counter()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(steps):
                step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "synchroniz" in str(warning.message):
            found[f"{_short(warning.filename)}:{warning.lineno}"] += 1
    return {place: count / steps for place, count in found.most_common()}


def _short(path: str) -> str:
    """A path from the project or from its package on."""
    text = path.removeprefix(f"{_ROOT}/")
    return re.sub(r"^.*site-packages/", "", text)


def busy_share(step: Callable[[], object], steps: int) -> dict[str, Any]:
    """How long the GPU worked of the time that steps took, the number of kernels, and the longest of them.

    Args:
        step: runs one step.
        steps: how many to run.
    """
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / steps
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    kernels = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
    busy = sum(event.self_device_time_total for event in kernels) / steps / 1e6
    longest = sorted(kernels, key=lambda event: -event.self_device_time_total)[:12]
    return {
        "ms": 1000 * seconds,
        "busy_ms": 1000 * busy,
        "share": busy / seconds,
        "kernels": sum(event.count for event in kernels) / steps,
        "longest": {event.key[:90]: event.self_device_time_total / steps / 1000 for event in longest},
    }
