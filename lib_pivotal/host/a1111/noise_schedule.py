"""The noise schedule with which the webui uses a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.tensor_file import Unreadable, open_tensors
from lib_pivotal.core.diffusion.objective import zero_terminal

__all__ = ["marks_of", "noise_schedule_of"]

_TOLERANCE = 1e-3
"""Rounding to fp16 moves alphas_cumprod by at most 5e-4; another schedule differs by far more."""

_MARKS = ("v_pred", "ztsnr")


def noise_schedule_of(model: Any) -> torch.Tensor:
    """alphas_cumprod in fp32 on the CPU, shape ``(T,)``, from the first timestep to the noisiest.

    Computed again where the model's own copy is the usual schedule apart from rounding. It has zero terminal SNR where
    the webui generates that way, or where the checkpoint says that it was trained that way.

    Host: modules/sd_models.py, ``load_model_weights``, A1111 1.6.1-1.7: ``alphas_cumprod`` is fp16, wrong by up to 16 %
    in SNR at small t; 1.8-1.10.1 keep it as ``alphas_cumprod_original``, rounded to fp16 where the file has it.
    Host: modules/shared_options.py, ``sd_noise_schedule``, A1111 1.8-1.10.1: applied again by every generation.
    """
    from modules import shared

    plain = _without_zero_terminal(model)
    wants_zero_terminal = getattr(shared.opts, "sd_noise_schedule", "Default") == "Zero Terminal SNR"
    if wants_zero_terminal or "ztsnr" in marks_of(model.sd_checkpoint_info.filename):
        return zero_terminal(plain)
    return plain


def _without_zero_terminal(model: Any) -> torch.Tensor:
    stored = getattr(model, "alphas_cumprod_original", None)
    if stored is None:
        stored = model.alphas_cumprod
    stored = stored.detach().float().cpu().clone()
    start, end = getattr(model, "linear_start", None), getattr(model, "linear_end", None)
    if start is None or end is None:
        return stored
    betas = torch.linspace(float(start) ** 0.5, float(end) ** 0.5, len(stored), dtype=torch.float64) ** 2
    exact = torch.cumprod(1.0 - betas, dim=0).float()
    return exact if float((exact - stored).abs().max()) < _TOLERANCE else stored


def marks_of(filename: str) -> frozenset[str]:
    """What a checkpoint says about itself through empty tensors: ``v_pred``, ``ztsnr``. Only its header is read.

    Source: NoobAI-XL's v-prediction checkpoints, which introduced these marks.
    """
    path = Path(filename)
    if path.suffix.lower() != ".safetensors":
        return frozenset()
    try:
        with open_tensors(path) as file:
            return frozenset(mark for mark in _MARKS if mark in file.entries)
    except (OSError, Unreadable):
        return frozenset()
