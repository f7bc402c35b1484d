"""Why training cannot start on this webui, found without touching the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.checkpoint_file import CheckpointFile, read_checkpoint_file
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.errors import HostError, Problem
from lib_pivotal.core.train.checks import check_schedule, family_hints
from lib_pivotal.host.a1111.eight_bits import is_in_eight_bits
from lib_pivotal.host.a1111.family import family_of, native_resolution, require_trainable
from lib_pivotal.host.a1111.noise_schedule import marks_of, noise_schedule_of

__all__ = ["family_to_train", "file_to_train", "find_obstacles", "loaded_model"]


def find_obstacles(config: TrainConfig) -> list[Problem]:
    """All reasons why a run cannot start: start options, checkpoint and precision."""
    return [*_start_options(), *_checkpoint(config), *_precision(config.precision)]


def family_to_train(config: TrainConfig) -> str:
    """Family of the chosen or selected checkpoint, see ``core.families``; empty if it is not known.

    The model in memory shows it, and otherwise the header of the checkpoint's file.
    """
    model = loaded_model(config)
    if model is not None:
        return family_of(model)
    found = file_to_train(config)
    return found.family if found is not None else ""


def loaded_model(config: TrainConfig) -> Any:
    """The model in memory if it is the chosen or selected checkpoint; otherwise None."""
    from modules import sd_models

    info, model = _wanted(config), sd_models.model_data.sd_model
    wanted = getattr(info, "filename", None)
    if model is not None and (wanted == model.sd_checkpoint_info.filename or not (wanted or config.checkpoint)):
        return model
    return None


def file_to_train(config: TrainConfig) -> CheckpointFile | None:
    """What the header of the chosen or selected checkpoint's file says; None if it cannot be read."""
    info = _wanted(config)
    if info is None or Path(info.filename).suffix.lower() != ".safetensors":
        return None
    try:
        return read_checkpoint_file(Path(info.filename))
    except HostError:
        return None


def _wanted(config: TrainConfig) -> Any:
    """The webui's record of the chosen or selected checkpoint, or None.

    Host: modules/sd_models.py, ``get_closet_checkpoint_match``, A1111 1.6.1-1.10.1 (sic).
    """
    from modules import sd_models

    if not config.checkpoint:
        return sd_models.checkpoint_aliases.get(_selected())
    return sd_models.get_closet_checkpoint_match(config.checkpoint)


def _start_options() -> list[Problem]:
    """Host: modules/cmd_args.py, ``--upcast-sampling``, A1111 1.6.1-1.10.1: a flag that is not given is False.

    Host: modules/sd_hijack_unet.py, ``apply_model``, A1111 1.6.1-1.10.1: with ``--upcast-sampling`` generations
    cast weights of GroupNorm and GEGLU in place, so it cannot be verified that they are unchanged.
    """
    from modules import shared

    if not getattr(shared.cmd_opts, "upcast_sampling", False):
        return []
    text = "The webui was started with --upcast-sampling, and cannot train with that option."
    return [Problem("webui", "error", text, "Start it without --upcast-sampling. Use --no-half instead.")]


def _checkpoint(config: TrainConfig) -> list[Problem]:
    from modules import sd_models

    name = config.checkpoint
    names = [info.title for info in list(sd_models.checkpoints_list.values())]
    if not names:
        text = "The webui has no checkpoint."
        return [Problem("checkpoint", "error", text, "Put one into models/Stable-diffusion and refresh its list.")]
    info = _wanted(config)
    if name and info is None:
        hint = "Available: " + ", ".join(names) + "."
        return [Problem("checkpoint", "error", f"The webui has no checkpoint {shown(name)}.", hint)]
    return [*_file(info), *_loaded_model(info, config)]


def _file(info: Any) -> list[Problem]:
    """Problems with a checkpoint's file; if the checkpoint is loaded, the model itself reveals more.

    Host: modules/sd_models.py, ``load_model_weights``, A1111 1.6.1-1.10.1: a file without a VAE is loaded without a
    word, and the VAE then has random weights unless another one is chosen.
    """
    from modules import sd_models

    if info is None:
        return []
    path = Path(info.filename)
    model = sd_models.model_data.sd_model
    is_loaded = model is not None and model.sd_checkpoint_info.filename == info.filename
    if path.suffix.lower() != ".safetensors" or (is_loaded and not path.exists()):
        return []
    try:
        missing = read_checkpoint_file(path).missing
    except HostError as error:
        hint = f"{error.hint} Or select another checkpoint."
        return [] if is_loaded else [Problem("checkpoint", "error", error.message, hint)]
    problems = []
    if set(missing) - {"VAE"} and not is_loaded:
        text = f"{path.name} has no {' and no '.join(part for part in missing if part != 'VAE')}."
        problems.append(Problem("checkpoint", "error", text, "Select a checkpoint that has all parts."))
    if "VAE" in missing and not _has_chosen_vae(info.filename):
        text = f"{path.name} has no VAE, and no VAE is selected for it in the webui."
        problems.append(Problem("checkpoint", "error", text, "Choose one in Settings, VAE, SD VAE."))
    return problems


def _has_chosen_vae(filename: str) -> bool:
    """Host: modules/sd_vae.py, ``resolve_vae``, A1111 1.6.1-1.10.1: by option, setting, card or the file's name."""
    from modules import sd_vae

    return sd_vae.resolve_vae(filename).vae is not None


def _loaded_model(wanted: Any, config: TrainConfig) -> list[Problem]:
    """Problems with the model in memory, if it is the one to train.

    Host: modules/sd_models.py, ``model_data.sd_model``, A1111 1.6.1-1.10.1: unlike ``shared.sd_model`` it does not
    start loading.
    """
    from modules import sd_models

    model = sd_models.model_data.sd_model
    if model is None:
        return []
    if wanted is not None and wanted.filename != model.sd_checkpoint_info.filename:
        return []
    try:
        require_trainable(model)
    except HostError as error:
        return [Problem("checkpoint", "error", error.message, error.hint)]
    problems = [*_mistaken_prediction(model), *family_hints(family_of(model), native_resolution(model), config)]
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


def _selected() -> str | None:
    from modules import shared

    return getattr(shared.opts, "sd_model_checkpoint", None)


def _precision(wanted: str) -> list[Problem]:
    """Host: modules/devices.py, ``device``, and ``--no-half``, A1111 1.6.1-1.10.1."""
    from modules import devices, sd_models, shared

    device = torch.device(devices.device or "cpu").type
    is_half = not shared.cmd_opts.no_half
    model = sd_models.model_data.sd_model
    if wanted == "fp32" and model is not None and is_in_eight_bits(model.model):
        text = "The webui stores the model in fp8, so it cannot run in fp32."
        return [Problem("precision", "error", text, "Choose auto, or set Settings, FP8 weight to Disable.")]
    if device in ("cpu", "mps") and is_half:
        text = f"The model is in fp16 and runs on {device}, which cannot train in fp16."
        return [Problem("precision", "error", text, "Start the webui with --no-half.")]
    if wanted == "fp32" and is_half:
        text = "The webui has loaded the model in fp16, so it cannot run in fp32."
        return [Problem("precision", "error", text, "Choose auto, or start the webui with --no-half.")]
    if wanted == "fp16" and device != "cuda":
        return [Problem("precision", "error", f"fp16 is not possible on {device}.", "Choose auto.")]
    if wanted == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        return [Problem("precision", "error", "This GPU does not support bf16.", "Choose auto.")]
    return []
