"""Why training cannot start on Forge, found without loading a model."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError, Problem
from lib_pivotal.core.train.model_checks import check_schedule, family_hints
from lib_pivotal.host.forge.family import family_of, native_resolution, require_trainable
from lib_pivotal.host.forge.noise_schedule import noise_schedule_of
from lib_pivotal.host.webui.checkpoint_choice import checkpoint_problems
from lib_pivotal.host.webui.clip_skip import clip_skip_problems

__all__ = ["find_obstacles"]


def find_obstacles(config: TrainConfig) -> list[Problem]:
    """All reasons why a run cannot start: low bits, checkpoint and precision."""
    problems = checkpoint_problems(
        config,
        has_chosen=_has_chosen,
        vae_hint="Choose one at the top of the page, under VAE / Text Encoder.",
        model_problems=lambda engine: _loaded_model(engine, config),
    )
    return [*_low_bits(), *problems, *_precision(config.precision)]


def _has_chosen(_part: str, _filename: str) -> bool:
    """Whether the user has chosen a file for a part that the checkpoint's file lacks.

    Host: modules/sd_models.py, ``additional_modules``, Forge: the files chosen under VAE / Text Encoder, for every
        checkpoint; their contents decide which part they replace.
    """
    from modules import shared

    return bool(getattr(shared.opts, "forge_additional_modules", None))


def _low_bits() -> list[Problem]:
    """Host: modules_forge/main_entry.py, ``forge_unet_storage_dtype``, Forge: names of four bits begin with ``bnb``."""
    from modules import shared

    chosen = str(getattr(shared.opts, "forge_unet_storage_dtype", ""))
    if not chosen.startswith("bnb"):
        return []
    text = f"Diffusion in Low Bits is set to {chosen}, and such weights cannot be trained."
    return [Problem("webui", "error", text, "Set it to Automatic at the top of the page.")]


def _loaded_model(engine: Any, config: TrainConfig) -> list[Problem]:
    """Problems with the model in memory, which is the one to train."""
    try:
        require_trainable(engine, config)
    except HostError as error:
        return [Problem("checkpoint", "error", error.message, error.hint)]
    family = family_of(engine)
    problems = [*family_hints(family, native_resolution(engine), config), *clip_skip_problems(config, family)]
    if config.noise_offset:
        problems += check_schedule(config, noise_schedule_of(engine).tolist())
    return problems


def _precision(wanted: str) -> list[Problem]:
    """Host: backend/memory_management.py, ``get_torch_device``, Forge."""
    from backend import memory_management

    device = memory_management.get_torch_device().type
    if wanted == "fp16" and device != "cuda":
        return [Problem("precision", "error", f"fp16 is not possible on {device}.", "Choose auto.")]
    if wanted == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        return [Problem("precision", "error", "This GPU does not support bf16.", "Choose auto.")]
    return []
