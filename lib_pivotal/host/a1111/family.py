"""Which model the webui has loaded, and whether it can be trained."""

from __future__ import annotations

from typing import Any

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES

__all__ = ["family_of", "native_resolution", "require_trainable", "unet_of"]


def unet_of(model: Any) -> Any:
    """The UNet itself, inside the wrapper that carries the webui's hooks.

    Host: ldm/models/diffusion/ddpm.py, ``DiffusionWrapper.diffusion_model``, A1111 1.6.1-1.10.1.
    """
    return model.model.diffusion_model


def family_of(model: Any) -> str:
    """Name of the loaded model's family, see ``core.families``; the nearest one for a model that cannot be trained.

    Host: modules/sd_models.py, ``is_sd2`` and ``is_sdxl``, A1111 1.6.1-1.10.1: set on the model when it is loaded.
    Host: modules_forge/forge_loader.py, ``load_model_for_a1111``, reForge: ``is_sd2`` asks for an attribute that the
        wrapper of SD2's encoder, ``CLIP_SD_21_H``, does not have.
    """
    if getattr(model, "is_sdxl", False):
        return "sdxl"
    encoder = type(getattr(model, "cond_stage_model", None)).__name__
    return "sd2" if getattr(model, "is_sd2", False) or encoder == "CLIP_SD_21_H" else "sd1"


def _untrainable_kind(model: Any) -> str:
    """What a model is that cannot be trained, such as "an SDXL refiner"; empty for one that can.

    Host: modules/sd_models.py, ``is_ssd``, A1111 1.7-1.10.1, ``is_sd3`` and ``is_sdxl_inpaint``, A1111 1.10: set on the
        model when it is loaded.
    Host: modules/sd_models.py, ``latent_channels``, A1111 1.10: likewise; reForge also has SDXL with Flux's VAE.
    """
    if getattr(model, "is_sd3", False):
        return "SD3"
    channels = getattr(model, "latent_channels", 4)
    if channels != 4:
        return f"a model with {channels} latent channels"
    family = FAMILIES[family_of(model)]
    if family.has_conditioner:
        return _untrainable_conditioner(model)
    reason = _untrainable_ldm(model, family.title)
    if reason or family.text_encoders[0].is_open_clip or _has_clip_l(model):
        return reason
    return f"a model with the text encoder {type(model.cond_stage_model).__name__}"


def _untrainable_ldm(model: Any, title: str) -> str:
    """The same for models in the layout of latent diffusion."""
    key = getattr(model.model, "conditioning_key", None)
    if getattr(model, "cond_stage_key", None) == "edit":
        return "an instruct-pix2pix model"
    if key in ("hybrid", "concat"):
        return f"a depth model ({title})" if hasattr(model, "depth_model") else f"an inpainting model ({title})"
    return "" if key == "crossattn" else f"a {title} model with the unusual conditioning {key!r}"


def _untrainable_conditioner(model: Any) -> str:
    """The same for models in the layout of generative-models."""
    encoders = [embedder for embedder in model.conditioner.embedders if hasattr(embedder, "wrapped")]
    if len(encoders) == 1:
        return "an SDXL refiner"
    if getattr(model, "is_sdxl_inpaint", False) or getattr(model.model, "conditioning_key", None) == "hybrid":
        return "an SDXL inpainting model"
    return "SSD-1B" if getattr(model, "is_ssd", False) else ""


def _has_clip_l(model: Any) -> bool:
    """Host: modules/sd_hijack.py, ``hijack``, A1111 1.6.1-1.10.1: a wrapper holds SD1's encoder in ``wrapped``."""
    wrapped = getattr(model.cond_stage_model, "wrapped", None)
    return hasattr(getattr(wrapped, "transformer", None), "text_model") and hasattr(wrapped, "tokenizer")


def native_resolution(model: Any) -> int:
    """Side in px that a trainable model was made for.

    Host: ldm/models/diffusion/ddpm.py, ``image_size``, A1111 1.6.1-1.10.1: in latent cells, from the configuration.
        SDXL's class has no such attribute.
    """
    is_v_prediction = getattr(model, "parameterization", "eps") == "v"
    family = FAMILIES[family_of(model)]
    return family.resolution_for(getattr(model, "image_size", None), is_v_prediction=is_v_prediction)


def require_trainable(model: Any) -> None:
    """Refuse every model that this version cannot train.

    Raises:
        HostError: there is no model, or it is of a kind that cannot be trained. The message says which.
    """
    if model is None:
        raise HostError("No checkpoint is loaded in the webui.", hint="Select a checkpoint that loads, then train.")
    untrainable = _untrainable_kind(model)
    if untrainable:
        name = getattr(getattr(model, "sd_checkpoint_info", None), "name", "The selected checkpoint")
        titles = [family.title for family in FAMILIES.values()]
        trainable = f"{', '.join(titles[:-1])} and {titles[-1]}"
        raise HostError(
            f"{name} is {untrainable}.", hint=f"{trainable} checkpoints can be trained; select one of them."
        )
