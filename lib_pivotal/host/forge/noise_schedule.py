"""The noise schedule with which Forge uses a model."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.diffusion.objective import zero_terminal

__all__ = ["noise_schedule_of"]


def noise_schedule_of(engine: Any) -> torch.Tensor:
    """alphas_cumprod in fp32 on the CPU, shape ``(T,)``, from the first timestep to the noisiest.

    Host: backend/modules/k_prediction.py, ``sigmas``, Forge: their squares are 1/alphas_cumprod - 1.
    Host: modules/processing.py, ``sd_noise_schedule``, and backend/loader.py, ``ztsnr``, Forge: each generation makes
        the terminal SNR zero if the settings or the checkpoint say so, and restores the sigmas afterwards.
    """
    from modules import shared

    sigmas = engine.forge_objects_original.unet.model.predictor.sigmas.detach().cpu().double()
    plain = (1.0 / (sigmas**2 + 1.0)).float()
    wants_zero_terminal = getattr(shared.opts, "sd_noise_schedule", "Default") == "Zero Terminal SNR"
    has_zero_terminal = bool(getattr(engine.model_config, "ztsnr", False))
    return zero_terminal(plain) if wants_zero_terminal or has_zero_terminal else plain
