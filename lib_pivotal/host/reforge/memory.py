"""reForge's memory management: LoRAs out of the weights, and the model on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.train.out_of_memory import is_out_of_memory
from lib_pivotal.host.webui.lora_extension import lora_extension
from lib_pivotal.host.webui.plain_tensors import use_plain_tensors

__all__ = ["release", "remove_loras", "settle"]


def remove_loras(model: Any) -> None:
    """Restore the weights, as before a generation whose prompt names no LoRA; complete after :func:`settle`.

    Host: extensions-builtin/Lora/networks.py, ``load_networks``, reForge: needs a list of multipliers of each kind.
    Host: modules_forge/forge_loader.py, ``ForgeSD.shallow_copy``, reForge: each generation begins with a copy of
        ``forge_objects_original`` and samples with a copy of ``forge_objects_after_applying_lora``.
    """
    extension = lora_extension()
    if extension is not None:
        extension.load_networks([], [], [])
    model.forge_objects = model.forge_objects_original.shallow_copy()
    model.forge_objects_after_applying_lora = model.forge_objects_original.shallow_copy()


def release() -> None:
    """Let reForge place the model itself again: a run may have moved parts of it without asking.

    Host: ldm_patched/modules/model_management.py, ``unload_all_models``, reForge: what is unloaded is loaded again by
        the next generation.
    """
    from ldm_patched.modules import model_management

    model_management.unload_all_models()


def settle(model: Any) -> None:
    """Load UNet and text encoders, and make their weights usable by autograd; after everything reForge has done.

    Raises:
        HostError: the device has too little memory for the whole weights.

    Host: ldm_patched/modules/model_management.py, ``load_models_gpu``, reForge: merges the patches of a patcher into
        the weights, or takes them out. With too little memory it leaves a part of the weights in main memory
        (``model_lowvram``), unless it is to load all of them.
    """
    from ldm_patched.modules import model_management

    objects = model.forge_objects_original
    patchers = [objects.unet, objects.clip.patcher]
    model_management.load_models_gpu(patchers)
    if _is_swapped(patchers):
        model_management.unload_all_models()
        try:
            # Without the memory that reForge reserves for images: a run plans its own.
            model_management.load_models_gpu(patchers, force_full_load=True)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            model_management.unload_all_models()
    if _is_swapped(patchers) or not model_management.current_loaded_models:
        text = "The GPU has too little free memory for the whole model, and training cannot swap weights."
        raise HostError(text, hint="Close other programs that use the GPU.")
    # The model itself has a further name for a weight of SDXL's second text encoder.
    use_plain_tensors(*(patcher.model for patcher in patchers), objects.vae.first_stage_model, model)


def _is_swapped(patchers: Sequence[Any]) -> bool:
    return any(getattr(patcher.model, "model_lowvram", False) for patcher in patchers)
