"""What every preview restores: random state, progress, settings, and the user's last prompt."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from lib_pivotal.host.webui.txt2img import forget_conds, pinned_options, same_prompt_history

__all__ = ["unnoticed"]

_STATE = (
    "skipped",
    "job",
    "job_no",
    "job_count",
    "job_timestamp",
    "processing_has_refined_job_count",
    "sampling_step",
    "sampling_steps",
    "current_latent",
    "current_image_sampling_step",
    "textinfo",
    "time_start",
)
"""Host: modules/shared_state.py, ``State``, A1111 1.6.1-1.10.1: what a generation writes. The interrupt flags are not
listed, so that an Interrupt during a preview is not lost."""


@contextlib.contextmanager
def unnoticed(options: Mapping[str, Any], device: torch.device) -> Iterator[None]:
    """Within the context a generation leaves nothing behind.

    Args:
        options: settings that must not change meanwhile.
        device: of the model.
    """
    with ExitStack() as stack:
        stack.enter_context(_same_random_state(device))
        stack.enter_context(_same_progress())
        stack.enter_context(pinned_options(options))
        stack.enter_context(same_prompt_history())
        stack.callback(forget_conds)
        forget_conds()
        yield


@contextlib.contextmanager
def _same_random_state(device: torch.device) -> Iterator[None]:
    """Host: modules/rng.py, ``manual_seed``, A1111 1.6.1-1.10.1: seeds torch's global generator."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    kept_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])
        if kept_device is not None:
            torch.cuda.set_rng_state(kept_device, device)


@contextlib.contextmanager
def _same_progress() -> Iterator[None]:
    from modules import shared

    state = shared.state
    kept = {name: getattr(state, name) for name in _STATE if hasattr(state, name)}
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(state, name, value)
