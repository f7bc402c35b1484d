"""Takes the LoRAs of the last generation out of the model."""

from __future__ import annotations

from typing import Any

from lib_pivotal.host.webui.lora_extension import lora_extension

__all__ = ["remove_loras"]


def remove_loras(engine: Any) -> None:
    """Restore the weights now, as before a generation whose prompt names no LoRA.

    Host: extensions-builtin/sd_forge_lora/networks.py, ``load_networks``, Forge: a generation leaves its LoRAs merged;
        without LoRAs only the patchers of ``forge_objects`` are exchanged. It needs a list of multipliers of each kind.
    Host: backend/patcher/base.py, ``ModelPatcher.refresh_loras``, Forge: restores the weights from a copy in main
        memory, and removes LoRAs that are computed in every step (``forge_online_loras``).
    Host: backend/patcher/base.py, ``ModelPatcher.partially_load``, Forge-Neo: has no ``refresh_loras``; loading these
        patchers again, as :meth:`ForgeMemory.settle` does, restores the weights.
    Host: backend/diffusion_engine/base.py, ``forge_objects_original``, ``forge_objects_after_applying_lora`` and
        ``ForgeObjects.shallow_copy``, Forge: each generation begins with a copy of the first, and samples with a copy
        of the second.
    """
    extension = lora_extension()
    if extension is not None:
        extension.load_networks([], [], [])
    original = engine.forge_objects_original
    engine.forge_objects = original.shallow_copy()
    engine.forge_objects_after_applying_lora = original.shallow_copy()
    for patcher in (original.unet, original.clip.patcher, original.vae.patcher):
        if hasattr(patcher, "refresh_loras"):
            patcher.refresh_loras()
