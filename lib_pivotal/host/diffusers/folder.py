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


def networks_from_folder(path: Path) -> Networks:
    """Read a diffusers folder.

    Raises:
        HostError: a part is missing, or the model cannot be trained.
    """

    def load(kind: Any, part: str) -> Any:
        options = {"local_files_only": True, "torch_dtype": torch.float32}
        return kind.from_pretrained(path, subfolder=part, variant=find_weights(path / part).variant, **options)

    try:
        unet = load(diffusers.UNet2DConditionModel, "unet")
        vae = load(diffusers.AutoencoderKL, "vae")
        name = _family_of(unet, path)
        texts = _texts(path, FAMILIES[name])
        schedule = json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HostError(f"{path} is not a complete diffusers model.", hint=str(error).split("\n")[0]) from error
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
    # The tokenizers library has no error class of its own for files it does not understand.
    except Exception as error:
        text = f"The tokenizer of {path.name} cannot be read ({str(error).splitlines()[0]})."
        raise HostError(text, hint="Download its folder tokenizer again.") from error


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
        folder = path / _encoder_folder(number)
        variant = find_weights(folder).variant
        model = model_class.from_pretrained(folder, local_files_only=True, dtype=torch.float32, variant=variant)
        # diffusers reads a normed layer as the last one, so folders leave out the layers after it.
        layer = -1 if info.is_normed else info.layer
        parts.append(TextPart(info, model, tokenizer, layer, family.allows_clip_skip))
    return tuple(parts)
