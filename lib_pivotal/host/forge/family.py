"""Which model Forge has loaded, and whether it can be trained."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES

__all__ = ["family_of", "is_v_prediction", "native_resolution", "require_trainable", "text_engines", "unet_of"]


def unet_of(engine: Any) -> Any:
    """The UNet itself, without the wrapper that computes with sigmas.

    Host: backend/modules/k_model.py, ``KModel.diffusion_model``, Forge.
    """
    return engine.forge_objects_original.unet.model.diffusion_model


def family_of(engine: Any) -> str:
    """Name of the loaded model's family, see ``core.families``; empty for other kinds of models.

    Host: backend/diffusion_engine/base.py, ``is_sd1``, ``is_sd2``, ``is_sdxl``, Forge: set by each engine. Forge-Neo
        has no SD2.
    """
    return next((name for name in FAMILIES if getattr(engine, f"is_{name}", False)), "")


def text_engines(engine: Any) -> list[Any]:
    """The text engines of a trainable model, in the order in which the UNet gets their outputs.

    Host: backend/diffusion_engine/sdxl.py, ``text_processing_engine_l``, ``text_processing_engine_g``, and sd15.py,
        sd20.py, ``text_processing_engine``, Forge: an SDXL refiner has only the second one.
    """
    names = ("text_processing_engine", "text_processing_engine_l", "text_processing_engine_g")
    return [getattr(engine, name) for name in names if hasattr(engine, name)]


def is_v_prediction(engine: Any) -> bool:
    """Whether Forge uses the model as one that predicts velocity.

    Host: backend/modules/k_prediction.py, ``prediction_type``, Forge: ``epsilon``, ``v_prediction``, ``edm``.
    """
    return str(engine.forge_objects_original.unet.model.predictor.prediction_type) == "v_prediction"


def native_resolution(engine: Any) -> int:
    """Side in px that a trainable model was made for; Forge keeps nothing that says so."""
    family = FAMILIES[family_of(engine)]
    return family.resolution_for(64 if family.is_v2 else None, is_v_prediction=is_v_prediction(engine))


def _untrainable_kind(engine: Any) -> str:
    """What a model is that cannot be trained, such as "an SDXL refiner"; empty for one that can.

    Host: backend/diffusion_engine/base.py, ``is_inpaint``, Forge.
    Host: backend/diffusion_engine/mugen.py, ``is_sdxl``, Forge-Neo: also for an SDXL with Flux's VAE.
    """
    name = family_of(engine)
    if not name:
        return f"a {type(engine).__name__} model"
    family = FAMILIES[name]
    if len(text_engines(engine)) != len(family.text_encoders):
        return "an SDXL refiner"
    if getattr(engine, "is_inpaint", False):
        return f"an inpainting model ({family.title})"
    model = engine.forge_objects_original.unet.model
    if model.diffusion_model.in_channels != model.diffusion_model.out_channels:
        return f"an {family.title} model whose UNet gets another image in addition"
    if model.diffusion_model.in_channels != 4:
        return f"an {family.title} model with {model.diffusion_model.in_channels} latent channels"
    kind = str(model.predictor.prediction_type)
    return "" if kind in ("epsilon", "v_prediction") else f"an {family.title} model with predictions of the kind {kind}"


def _trainable_families() -> str:
    """Titles of the families that can be trained in this webui, such as "SD1 and SDXL".

    Host: backend/diffusion_engine/sd20.py, ``StableDiffusion2``, Forge; Forge-Neo has no such module.
    """
    has_sd2 = importlib.util.find_spec("backend.diffusion_engine.sd20") is not None
    titles = [family.title for family in FAMILIES.values() if has_sd2 or not family.is_v2]
    return f"{', '.join(titles[:-1])} and {titles[-1]}"


def _special_layers() -> str:
    """How the UNet's layers compute if autograd cannot follow it; empty for the ordinary way.

    Host: backend/args.py, ``dynamic_args``, Forge-Neo: ``ops`` is the name of the classes of layers, and ``nunchaku``
        says that the UNet is quantized that way. In Forge it is a dict with neither.
    """
    from backend import args

    if getattr(args.dynamic_args, "nunchaku", False):
        return "Nunchaku"
    name = str(getattr(args.dynamic_args, "ops", None) or "ForgeOperations")
    return "" if name == "ForgeOperations" else name


def require_trainable(engine: Any, config: TrainConfig) -> None:
    """Refuse every model that this version cannot train with these settings.

    Raises:
        HostError: there is no model, it is of a kind that cannot be trained, or its weights are stored in a way that
            has no gradients or, for a DoRA, no norms. The message says which.

    Host: backend/loader.py, ``storage_dtype``, Forge: a torch type, or ``nf4``, ``fp4`` or ``gguf``.
    Host: backend/operations.py, ``scale_weight``, Forge: what a weight of some checkpoints in fp8 is multiplied with.
    """
    if getattr(engine, "sd_checkpoint_info", None) is None:
        raise HostError("No checkpoint is loaded in the webui.", hint="Select a checkpoint that loads, then train.")
    name = engine.sd_checkpoint_info.name
    untrainable = _untrainable_kind(engine)
    if untrainable:
        hint = f"{_trainable_families()} checkpoints can be trained; select one of them."
        raise HostError(f"{name} is {untrainable}.", hint=hint)
    stored = engine.forge_objects_original.unet.model.storage_dtype
    if not isinstance(stored, torch.dtype):
        hint = "Set Diffusion in Low Bits at the top of the page to Automatic, and select a checkpoint in fp16 or fp8."
        raise HostError(f"The weights of {name} are quantized to {stored}, which cannot be trained.", hint=hint)
    layers = _special_layers()
    if layers:
        hint = "Select a checkpoint in fp16, bf16 or fp8, and start the webui without --fast-fp8."
        raise HostError(f"The webui computes {name} with {layers}, which has no gradients.", hint=hint)
    if any(getattr(module, "scale_weight", None) is not None for module in unet_of(engine).modules()):
        hint = "Select a checkpoint in fp16, bf16 or fp8 without scales."
        raise HostError(
            f"The weights of {name} are in fp8 with a scale for each layer, which cannot be trained.", hint=hint
        )
    if stored.itemsize == 1 and config.lora_kind == "dora":
        hint = "Choose another kind of LoRA, or set Diffusion in Low Bits at the top of the page to Automatic."
        raise HostError(f"The weights of {name} are in fp8, from which a DoRA cannot be trained.", hint=hint)
