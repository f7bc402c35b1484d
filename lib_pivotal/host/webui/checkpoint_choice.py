"""Which checkpoint a run trains, and what is wrong with it, found without loading it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib_pivotal.core.checkpoint_file import CheckpointFile, read_checkpoint_file
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.errors import HostError, Problem

__all__ = [
    "checkpoint_problems",
    "chosen_checkpoint",
    "family_to_train",
    "loaded_model",
    "wanted_file",
    "wanted_model",
]


def loaded_model() -> Any:
    """The webui's model, or None while none is loaded.

    Host: modules/sd_models.py, ``model_data.sd_model``, A1111 1.6.1-1.10.1, Forge, reForge: unlike ``shared.sd_model``
        it does not start loading. Until the first one is loaded, Forge has a ``FakeInitialModel`` there.
    """
    from modules import sd_models

    model = sd_models.model_data.sd_model
    return model if getattr(model, "sd_checkpoint_info", None) is not None else None


def chosen_checkpoint(config: TrainConfig) -> Any:
    """The webui's record of the chosen or selected checkpoint, or None.

    Host: modules/sd_models.py, ``get_closet_checkpoint_match``, A1111 1.6.1-1.10.1, Forge, reForge (sic).
    """
    from modules import sd_models

    if not config.checkpoint:
        return sd_models.checkpoint_aliases.get(_selected())
    return sd_models.get_closet_checkpoint_match(config.checkpoint)


def _selected() -> str | None:
    from modules import shared

    return getattr(shared.opts, "sd_model_checkpoint", None)


def family_to_train(config: TrainConfig, family_of: Callable[[Any], str]) -> str:
    """Family of the chosen or selected checkpoint, see ``core.families``; empty if it is not known.

    Args:
        config: the settings of the run.
        family_of: family of the webui's model. If it is not the wanted one, the header of the checkpoint's file shows
            the family.
    """
    model = wanted_model(config)
    if model is not None:
        return family_of(model)
    file = wanted_file(config)
    return file.family if file is not None else ""


def wanted_model(config: TrainConfig) -> Any:
    """The webui's model if it is the chosen or selected checkpoint; otherwise None."""
    info, model = chosen_checkpoint(config), loaded_model()
    wanted = getattr(info, "filename", None)
    if model is not None and (wanted == model.sd_checkpoint_info.filename or not (wanted or config.checkpoint)):
        return model
    return None


def wanted_file(config: TrainConfig) -> CheckpointFile | None:
    """What the header of the chosen or selected checkpoint's file says; None if it cannot be read."""
    info = chosen_checkpoint(config)
    if info is None or Path(info.filename).suffix.lower() != ".safetensors":
        return None
    try:
        return read_checkpoint_file(Path(info.filename))
    except HostError:
        return None


def checkpoint_problems(
    config: TrainConfig,
    *,
    has_chosen: Callable[[str, str], bool],
    vae_hint: str,
    model_problems: Callable[[Any], list[Problem]],
) -> list[Problem]:
    """Why the chosen or selected checkpoint cannot be trained.

    Args:
        config: the settings of the run.
        has_chosen: whether the user has chosen a part (``VAE``) for a checkpoint's file in the webui.
        vae_hint: how to choose one.
        model_problems: what is wrong with the webui's model, if it is the one to train.
    """
    from modules import sd_models

    names = [info.title for info in list(sd_models.checkpoints_list.values())]
    if not names:
        text = "The webui has no checkpoint."
        return [Problem("checkpoint", "error", text, "Put one into models/Stable-diffusion and refresh its list.")]
    info = chosen_checkpoint(config)
    if config.checkpoint and info is None:
        hint = "Available: " + ", ".join(names) + "."
        return [Problem("checkpoint", "error", f"The webui has no checkpoint {shown(config.checkpoint)}.", hint)]
    problems = _file(info, has_chosen, vae_hint)
    model = loaded_model()
    if model is not None and (info is None or info.filename == model.sd_checkpoint_info.filename):
        problems += model_problems(model)
    return problems


def _file(info: Any, has_chosen: Callable[[str, str], bool], vae_hint: str) -> list[Problem]:
    """Problems with a checkpoint's file; if the checkpoint is loaded, the model itself reveals more.

    Host: modules/sd_models.py, ``load_model_weights``, A1111 1.6.1-1.10.1: a file without a VAE is loaded without a
    word, and the VAE then has random weights unless another one is chosen.
    """
    if info is None:
        return []
    path = Path(info.filename)
    model = loaded_model()
    is_loaded = model is not None and model.sd_checkpoint_info.filename == info.filename
    if path.suffix.lower() != ".safetensors" or (is_loaded and not path.exists()):
        return []
    try:
        missing = read_checkpoint_file(path).missing
    except HostError as error:
        hint = f"{error.hint} Or select another checkpoint."
        return [] if is_loaded else [Problem("checkpoint", "error", error.message, hint)]
    missing = [part for part in missing if not has_chosen(part, info.filename)]
    problems = []
    if set(missing) - {"VAE"} and not is_loaded:
        text = f"{path.name} has no {' and no '.join(part for part in missing if part != 'VAE')}."
        problems.append(Problem("checkpoint", "error", text, "Select a checkpoint that has all parts."))
    if "VAE" in missing:
        text = f"{path.name} has no VAE, and no VAE is selected for it in the webui."
        problems.append(Problem("checkpoint", "error", text, vae_hint))
    return problems
