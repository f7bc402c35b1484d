"""Whether a checkpoint can be loaded, said before the long work; only headers and configurations are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lib_pivotal.core.checkpoint_file import read_checkpoint_file
from lib_pivotal.core.errors import HostError, Problem
from lib_pivotal.host.diffusers.shapes import read_config, unet_params
from lib_pivotal.host.diffusers.weight_files import find_weights, require_readable

__all__ = ["check_checkpoint"]

_AGAIN = "Download the folder again, with everything in it."
_YAML = "Put the .yaml that came with the checkpoint next to it, under the same name."
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


def check_checkpoint(path: Path) -> list[Problem]:
    """Everything that would keep a model from being loaded.

    Args:
        path: ``.safetensors`` file or diffusers folder.
    """
    if path.is_dir():
        return _check_folder(path)
    return _gather(partial(_require_file, path), partial(_require_parts, path))


def _gather(*checks: Callable[[], None]) -> list[Problem]:
    """The first problem of a file; what comes after it would be about the same."""
    for check in checks:
        try:
            check()
        except HostError as error:
            return [Problem("checkpoint", "error", error.message, error.hint)]
    return []


def _require_file(path: Path) -> None:
    if not path.exists():
        raise HostError(f"There is no checkpoint {path}.", hint="Check the path in the setting checkpoint.")
    if not path.is_file():
        raise HostError(f"{path} is not a file.", hint="Give a .safetensors file or a diffusers folder.")
    if path.suffix.lower() in _PICKLES:
        hint = "Convert it to .safetensors: a pickle can run commands when it is loaded."
        raise HostError(f"{path.name} is not a .safetensors file.", hint=hint)
    if path.suffix.lower() != ".safetensors":
        hint = "Give a .safetensors file or a diffusers folder."
        raise HostError(f"{path.name} is not a .safetensors file.", hint=hint)


def _require_parts(path: Path) -> None:
    found = read_checkpoint_file(path)
    if found.missing:
        hint = "Give a checkpoint that has all parts, not a pruned one."
        raise HostError(f"{path.name} has no {' and no '.join(found.missing)}.", hint=hint)
    unet = unet_params(read_config(path, found.family)["model"]["params"])
    if unet.get("model_channels") != found.unet_width:
        raise HostError(f"The UNet of {path.name} does not fit its configuration.", hint=_YAML)


def _check_folder(path: Path) -> list[Problem]:
    """Of a folder every part that is wrong, for one that was downloaded in pieces may lack several."""
    if not (path / "model_index.json").exists():
        hint = "Give a folder with a model_index.json, or a .safetensors file."
        return [Problem("checkpoint", "error", f"{path} is not a diffusers model.", hint)]
    parts = ["unet", "vae", "text_encoder"]
    if (path / "text_encoder_2").exists():
        parts.append("text_encoder_2")
    problems = [problem for part in parts for problem in _gather(partial(_require_part, path / part))]
    problems += _gather(partial(_require_schedule, path))
    if not any((path / "tokenizer" / name).exists() for name in ("vocab.json", "tokenizer.json")):
        problems.append(Problem("checkpoint", "error", f"{path.name} has no tokenizer.", _AGAIN))
    return problems


def _require_part(folder: Path) -> None:
    if not folder.is_dir():
        raise HostError(f"{folder.parent.name} has no {folder.name}.", hint=_missing_hint(folder))
    config = _read_json(folder / "config.json")
    if folder.name == "unet" and config.get("in_channels", 4) != 4:
        raise HostError(f"{folder.parent.name} is an inpainting or editing model.", hint="Give a plain one.")
    require_readable(find_weights(folder))


def _missing_hint(folder: Path) -> str:
    """What a folder without a UNet is, where another folder tells."""
    if folder.name == "unet" and (folder.parent / "transformer").is_dir():
        return "It is a model of SD3, Flux or a later family; give one of Stable Diffusion 1, 2 or XL."
    if folder.name == "text_encoder" and (folder.parent / "text_encoder_2").is_dir():
        return "It is an SDXL refiner; give the base model."
    return _AGAIN


def _require_schedule(path: Path) -> None:
    schedule = _read_json(path / "scheduler" / "scheduler_config.json")
    if schedule.get("beta_schedule") != "scaled_linear":
        text = f"{path.name} uses the unknown noise schedule {schedule.get('beta_schedule')}."
        raise HostError(text, hint="Stable Diffusion 1, 2 and XL all use scaled_linear.")
    if not all(isinstance(schedule.get(name), (int, float)) for name in ("beta_start", "beta_end")):
        raise HostError(f"The noise schedule of {path.name} has no beginning or no end.", hint=_AGAIN)


def _read_json(path: Path) -> dict[str, Any]:
    name = "/".join(path.parts[-3:])
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HostError(f"{name} is missing.", hint=_AGAIN) from None
    except (OSError, ValueError, RecursionError) as error:
        raise HostError(f"{name} cannot be read.", hint=_AGAIN) from error
    if not isinstance(values, dict):
        raise HostError(f"{name} cannot be read.", hint=_AGAIN)
    return values
