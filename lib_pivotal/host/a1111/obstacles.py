"""Why training cannot start on this webui, found without touching the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError, Problem
from lib_pivotal.core.train.model_checks import check_schedule, family_hints
from lib_pivotal.host.a1111.eight_bits import is_in_eight_bits
from lib_pivotal.host.a1111.family import family_of, native_resolution, require_trainable, unet_of
from lib_pivotal.host.a1111.noise_schedule import marks_of, noise_schedule_of
from lib_pivotal.host.webui.checkpoint_choice import checkpoint_problems, loaded_model
from lib_pivotal.host.webui.clip_skip import clip_skip_problems

__all__ = ["StorageAdvice", "find_obstacles"]


class StorageAdvice(NamedTuple):
    """How users change the precision in which their webui stores its model, for hints.

    Attributes:
        in_full: the start option with which it is fp32.
        not_in_eight_bits: what to do so that it is not fp8, as a part of a sentence.
    """

    in_full: str
    not_in_eight_bits: str


_ADVICE = StorageAdvice(in_full="--no-half", not_in_eight_bits="set Settings, FP8 weight to Disable")
"""Host: modules/cmd_args.py, ``--no-half``, A1111 1.6.1-1.10.1.

Host: modules/shared_options.py, ``fp8_storage``, A1111 1.8-1.10.1: the setting FP8 weight.
"""


def _is_started_in_half() -> bool:
    """Host: modules/cmd_args.py, ``--no-half``, A1111 1.6.1-1.10.1."""
    from modules import shared

    return not shared.cmd_opts.no_half


def find_obstacles(
    config: TrainConfig,
    require_trainable: Callable[[Any], None] = require_trainable,
    is_half: Callable[[], bool] = _is_started_in_half,
    advice: StorageAdvice = _ADVICE,
) -> list[Problem]:
    """All reasons why a run cannot start: start options, checkpoint and precision.

    Args:
        config: the settings of the run.
        require_trainable: refuses models that cannot be trained.
        is_half: whether the model is in fp16.
        advice: how the precision of the model is changed.
    """
    problems = checkpoint_problems(
        config,
        has_chosen=_has_chosen,
        vae_hint="Choose one in Settings, VAE, SD VAE.",
        model_problems=lambda model: _loaded_model(model, config, require_trainable),
    )
    precision = _precision(config.precision, advice, is_half=is_half())
    return [*_start_options(advice), *problems, *precision]


def _start_options(advice: StorageAdvice) -> list[Problem]:
    """Host: modules/cmd_args.py, ``--upcast-sampling``, A1111 1.6.1-1.10.1: a flag that is not given is False.

    Host: modules/sd_hijack_unet.py, ``apply_model``, A1111 1.6.1-1.10.1: with ``--upcast-sampling`` generations
    cast weights of GroupNorm and GEGLU in place, so it cannot be verified that they are unchanged.
    """
    from modules import shared

    if not getattr(shared.cmd_opts, "upcast_sampling", False):
        return []
    text = "The webui was started with --upcast-sampling, and cannot train with that option."
    return [Problem("webui", "error", text, f"Start it without --upcast-sampling. Use {advice.in_full} instead.")]


def _has_chosen(part: str, filename: str) -> bool:
    """Host: modules/sd_vae.py, ``resolve_vae``, A1111 1.6.1-1.10.1: by option, setting, card or the file's name."""
    from modules import sd_vae

    return part == "VAE" and sd_vae.resolve_vae(filename).vae is not None


def _loaded_model(model: Any, config: TrainConfig, require_trainable: Callable[[Any], None]) -> list[Problem]:
    """Problems with the model in memory, which is the one to train."""
    try:
        require_trainable(model)
    except HostError as error:
        return [Problem("checkpoint", "error", error.message, error.hint)]
    family = family_of(model)
    problems = [*_mistaken_prediction(model), *family_hints(family, native_resolution(model), config)]
    problems += clip_skip_problems(config, family)
    if config.noise_offset:
        # Reads the checkpoint's header.
        problems += check_schedule(config, noise_schedule_of(model).tolist())
    return problems


def _mistaken_prediction(model: Any) -> list[Problem]:
    """Whether the webui uses the checkpoint with the wrong prediction type.

    Host: modules/sd_models_xl.py, ``extend_sdxl``, A1111 1.6.1-1.10.1: without a ``.yaml`` next to it, an SDXL
    checkpoint is used as one that predicts noise.
    """
    if "v_pred" not in marks_of(model.sd_checkpoint_info.filename) or getattr(model, "parameterization", "") == "v":
        return []
    text = "The checkpoint is marked as predicting velocity (v), but the webui uses it as one that predicts noise."
    hint = "Put its .yaml file next to it; without the file its images are wrong too."
    return [Problem("checkpoint", "error", text, hint)]


def _precision(wanted: str, advice: StorageAdvice, *, is_half: bool) -> list[Problem]:
    """Host: modules/devices.py, ``device``, A1111 1.6.1-1.10.1."""
    from modules import devices

    device = torch.device(devices.device or "cpu").type
    model = loaded_model()
    if wanted == "fp32" and model is not None and is_in_eight_bits(unet_of(model)):
        text = "The webui stores the model in fp8, so it cannot run in fp32."
        return [Problem("precision", "error", text, f"Choose auto, or {advice.not_in_eight_bits}.")]
    if device in ("cpu", "mps") and is_half:
        text = f"The model is in fp16 and runs on {device}, which cannot train in fp16."
        return [Problem("precision", "error", text, f"Start the webui with {advice.in_full}.")]
    if wanted == "fp32" and is_half:
        text = "The webui has loaded the model in fp16, so it cannot run in fp32."
        return [Problem("precision", "error", text, f"Choose auto, or start the webui with {advice.in_full}.")]
    if wanted == "fp16" and device != "cuda":
        return [Problem("precision", "error", f"fp16 is not possible on {device}.", "Choose auto.")]
    if wanted == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        return [Problem("precision", "error", "This GPU does not support bf16.", "Choose auto.")]
    return []
