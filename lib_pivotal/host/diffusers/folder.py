"""The networks of a folder in diffusers' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from lib_pivotal.core.diffusion.objective import zero_terminal
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES, Family, detect_family
from lib_pivotal.host.diffusers.networks import Networks
from lib_pivotal.host.diffusers.standard import fixed_schedule
from lib_pivotal.host.diffusers.text import TextPart
from lib_pivotal.host.diffusers.weight_files import find_weights

__all__ = ["networks_from_folder", "tokenizer_of_folder"]

_AGAIN = "Download the folder again, with everything in it."


def networks_from_folder(path: Path) -> Networks:
    """Read a diffusers folder.

    Raises:
        HostError: a part or a tensor is missing, or the model cannot be trained.
    """
    try:
        unet = _load(diffusers.UNet2DConditionModel, path / "unet", torch_dtype=torch.float32)
        vae = _load(diffusers.AutoencoderKL, path / "vae", torch_dtype=torch.float32)
        name = _family_of(unet, path)
        texts = _texts(path, FAMILIES[name])
        schedule = json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    # transformers raises RuntimeError for tensors that do not fit the configuration, diffusers ValueError.
    except (OSError, ValueError, RuntimeError) as error:
        raise HostError(f"{path} cannot be loaded: {_first_line(error)}.", hint=_AGAIN) from error
    plain = fixed_schedule(schedule["beta_start"], schedule["beta_end"], schedule.get("num_train_timesteps", 1000))
    is_v_prediction = schedule.get("prediction_type", "epsilon") == "v_prediction"
    return Networks(
        source=path,
        family=name,
        unet=unet,
        vae=vae,
        texts=texts,
        scale=float(vae.config.scaling_factor),
        alphas_cumprod=zero_terminal(plain) if schedule.get("rescale_betas_zero_snr") else plain,
        is_v_prediction=is_v_prediction,
        native_resolution=FAMILIES[name].resolution_for(unet.config.sample_size, is_v_prediction=is_v_prediction),
    )


def tokenizer_of_folder(path: Path) -> Any:
    """The tokenizer in a diffusers folder.

    Raises:
        HostError: it is missing or damaged.
    """
    try:
        return transformers.CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    # The tokenizers library has no specific error class for files that it cannot parse.
    except Exception as error:
        text = f"The tokenizer of {path.name} cannot be read ({_first_line(error)})."
        raise HostError(text, hint="Download its folder tokenizer again.") from error


def _load(kind: Any, folder: Path, **options: Any) -> Any:
    """A network from its folder.

    Args:
        kind: class of diffusers or transformers.
        folder: such as ``unet``.
        options: for its ``from_pretrained``.

    Raises:
        HostError: a tensor is missing. The libraries would give it random values.
    """
    variant = find_weights(folder).variant
    network, found = kind.from_pretrained(
        folder, variant=variant, local_files_only=True, output_loading_info=True, **options
    )
    # Not a weight; some files have it and some do not.
    missing = sorted(name for name in found["missing_keys"] if not name.endswith("position_ids"))
    if missing:
        raise HostError(f"{folder.parent.name}/{folder.name} lacks weights, such as {missing[0]}.", hint=_AGAIN)
    return network


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def _encoder_folder(number: int) -> str:
    return "text_encoder" if number == 0 else f"text_encoder_{number + 1}"


def _family_of(unet: Any, path: Path) -> str:
    """Name of the family of a folder.

    Raises:
        HostError: the model cannot be trained.
    """
    encoder_count = sum((path / _encoder_folder(number)).exists() for number in (0, 1))
    return detect_family(
        path.name,
        input_channels=unet.config.in_channels,
        conditioner_encoders=encoder_count if (path / _encoder_folder(1)).exists() else 0,
        is_open_clip=bool(unet.config.use_linear_projection),
    )


def _texts(path: Path, family: Family) -> tuple[TextPart, ...]:
    tokenizer = tokenizer_of_folder(path)
    parts = []
    for number, info in enumerate(family.text_encoders):
        model_class = transformers.CLIPTextModelWithProjection if info.has_pooled_text else transformers.CLIPTextModel
        model = _load(model_class, path / _encoder_folder(number), dtype=torch.float32)
        # diffusers reads a normed layer as the last one, so folders leave out the layers after it.
        layer = -1 if info.is_normed else info.layer
        parts.append(TextPart(info, model, tokenizer, layer, family.allows_clip_skip))
    return tuple(parts)
