"""What differs between the webuis that the probe looks into."""

from __future__ import annotations

import inspect
from typing import Any

import torch


def is_forge(model: Any) -> bool:
    """Whether a model is one of Forge's engines, which are plain objects."""
    return not isinstance(model, torch.nn.Module)


def networks_of(model: Any) -> dict[str, torch.nn.Module]:
    """The parts of the webui's model: its UNet, text encoders and VAE, or all in one."""
    if not is_forge(model):
        return {"model": model}
    objects = model.forge_objects_original
    return {"unet": objects.unet.model, "text": objects.clip.cond_stage_model, "vae": objects.vae.first_stage_model}


def embedding_stores(model: Any) -> list[Any]:
    """Where prompts look for embeddings."""
    if is_forge(model):
        return [part.embeddings for part in vars(model).values() if hasattr(part, "embedding_key")]
    from modules import sd_hijack

    return [sd_hijack.model_hijack.embedding_db]


def read_embeddings_again() -> int:
    """Read the folder of embeddings again; returns how many there are."""
    from modules import sd_models

    stores = embedding_stores(sd_models.model_data.sd_model)
    for store in stores:
        # Forge's takes no argument, since it never looks whether the folder has changed.
        store.load_textual_inversion_embeddings(*([] if hasattr(store, "tokenizer") else [True]))
    return len(stores[0].word_embeddings) if stores else 0


def runner_without_scripts() -> Any:
    """What a generation without scripts has in their place: None, but reForge needs a runner.

    Host: modules/processing.py, ``process_images_inner``, reForge: reads ``p.scripts.alwayson_scripts``.
    """
    from modules import scripts, sd_models

    model = sd_models.model_data.sd_model
    return scripts.ScriptRunner() if hasattr(model, "forge_objects") and not is_forge(model) else None


def load_loras(names: list[str], weight: float = 1.0) -> None:
    """Have the Lora extension load LoRAs, all with one weight, and no others.

    Host: extensions-builtin/sd_forge_lora/networks.py, ``load_networks``, Forge-Neo: takes no dimensions.
    """
    import networks

    weights = [weight] * len(names)
    takes_dimensions = "dyn_dims" in inspect.signature(inspect.unwrap(networks.load_networks)).parameters
    networks.load_networks(names, weights, weights, *([[None] * len(names)] if takes_dimensions else []))


def remove_merged(model: Any) -> None:
    """Take LoRAs out of the weights of Forge's and reForge's model, without changing which ones are active."""
    objects = getattr(model, "forge_objects_original", None)
    if objects is not None:
        _apply_patches(model, objects)


def merge_active(model: Any) -> None:
    """Merge the active LoRAs into the weights of Forge's and reForge's model, as a generation does."""
    _apply_patches(model, model.forge_objects)


def _apply_patches(model: Any, objects: Any) -> None:
    if is_forge(model):
        from backend.memory_management import load_models_gpu
    else:
        from ldm_patched.modules.model_management import load_models_gpu
    patchers = [objects.unet, objects.clip.patcher]
    load_models_gpu(patchers)
    for patcher in patchers:
        # Forge-Neo and reForge have merged by now.
        getattr(patcher, "refresh_loras", lambda: None)()
