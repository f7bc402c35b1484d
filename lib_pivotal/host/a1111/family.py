"""Which kind of model the webui has loaded, and whether it can be trained."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES

__all__ = ["describe", "family_of", "native_resolution", "require_trainable", "unet_of"]

_EIGHT_BIT = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))


def unet_of(model: Any) -> Any:
    """The UNet itself, below the wrapper that carries the webui's hooks.

    Host: ldm/models/diffusion/ddpm.py, ``DiffusionWrapper.diffusion_model``, A1111 1.6.1-1.10.1.
    """
    return model.model.diffusion_model


def describe(model: Any) -> str:
    """Family of the loaded model in words; ``SD1``, ``SD2`` and ``SDXL`` can be trained.

    Host: modules/sd_models.py, ``set_model_type``, A1111 1.6.1-1.10.1: the flags ``is_sd1``, ``is_sd2``,
    ``is_sdxl``, ``is_ssd``; ``is_sd3`` only from 1.10, ``is_sdxl_inpaint`` from 1.10.
    """
    if getattr(model, "is_sd3", False):
        return "SD3"
    if getattr(model, "is_sdxl", False):
        return _describe_sdxl(model)
    base = "SD2" if getattr(model, "is_sd2", False) else "SD1"
    odd = _oddity(model, base)
    if odd or base == "SD2" or _has_clip_l(model):
        return odd or base
    return f"a model with the text encoder {type(model.cond_stage_model).__name__}"


def _oddity(model: Any, base: str) -> str:
    """What a model of the old architecture is besides text to image; empty for a plain one."""
    key = getattr(model.model, "conditioning_key", None)
    if getattr(model, "cond_stage_key", None) == "edit":
        return "an instruct-pix2pix model"
    if key in ("hybrid", "concat"):
        return f"a depth model ({base})" if hasattr(model, "depth_model") else f"an inpainting model ({base})"
    return "" if key == "crossattn" else f"a {base} model with the unusual conditioning {key!r}"


def _describe_sdxl(model: Any) -> str:
    encoders = [item for item in model.conditioner.embedders if hasattr(item, "wrapped")]
    if len(encoders) == 1:
        return "an SDXL refiner"
    if getattr(model, "is_sdxl_inpaint", False) or getattr(model.model, "conditioning_key", None) == "hybrid":
        return "an SDXL inpainting model"
    return "SSD-1B" if getattr(model, "is_ssd", False) else "SDXL"


def _has_clip_l(model: Any) -> bool:
    """Host: modules/sd_hijack.py, ``hijack``, A1111 1.6.1-1.10.1: an SD1 encoder sits in a wrapper's ``wrapped``."""
    wrapped = getattr(model.cond_stage_model, "wrapped", None)
    return hasattr(getattr(wrapped, "transformer", None), "text_model") and hasattr(wrapped, "tokenizer")


_TRAINABLE = {"SD1": "sd1", "SD2": "sd2", "SDXL": "sdxl"}


def family_of(model: Any) -> str:
    """Name of a trainable model's family, see ``core.families``."""
    return _TRAINABLE[describe(model)]


def native_resolution(model: Any) -> int:
    """Side in px that a trainable model was made for.

    Host: ldm/models/diffusion/ddpm.py, ``image_size``, A1111 1.6.1-1.10.1: in latent cells, from the configuration;
        SDXL has none. SD2's for velocity says 64 as all others do, and was made for 768 px.
    """
    family = family_of(model)
    usual = FAMILIES[family].native_resolution
    cells = getattr(model, "image_size", None)
    if (
        family == "sdxl"
        or not isinstance(cells, int)
        or (family == "sd2" and cells == 64 and model.parameterization == "v")
    ):
        return usual
    return 8 * cells


def require_trainable(model: Any) -> None:
    """Refuse every model that this version cannot train.

    Raises:
        HostError: no model, a kind that cannot be trained, weights in fp8, or a low-memory mode; says which.
    """
    if model is None:
        raise HostError("The webui has no checkpoint loaded.", hint="Select one that loads, then train.")
    kind = describe(model)
    if kind not in _TRAINABLE:
        name = getattr(getattr(model, "sd_checkpoint_info", None), "name", "the selected checkpoint")
        raise HostError(f"{name} is {kind}.", hint="SD1, SD2 and SDXL checkpoints can be trained; select one of them.")
    if getattr(model, "lowvram", False):
        raise HostError(
            "The model is loaded in a low-memory mode.",
            hint="Start the webui without --lowvram, --medvram and --medvram-sdxl.",
        )
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if dtypes & set(_EIGHT_BIT):
        raise HostError("The model's weights are stored in fp8.", hint="Set Settings, FP8 weight to Disable.")
