"""Makes the webui reload and reapply LoRA files that were replaced under their old name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib_pivotal.host.webui.lora_extension import file_of, lora_extension
from lib_pivotal.host.webui.quirks import load_network_reads_file

__all__ = ["apply_again", "forget_file", "load_again", "read_again"]

_REPLACED = (("replaced by pivotal tuning", 0.0, 0.0, None),)
"""No LoRA has this name, so the webui restores the layer from its backup and applies the active LoRAs again."""
_NO_LORAS_OF_FORGE = "replaced by pivotal tuning"
"""Equal to no list of LoRAs, so Forge restores the weights from its backup and merges again."""


def forget_file(path: Path) -> None:
    """Make the next generation read ``path`` from disk and use it, although a LoRA of this name was in use.

    Args:
        path: the file that was replaced.
    """
    wanted = os.path.realpath(path)
    read_again(lambda net: bool(file_of(net)) and os.path.realpath(file_of(net)) == wanted)
    apply_again()


def read_again(is_outdated: Callable[[Any], bool]) -> None:
    """Have the webui read LoRAs from their files when a prompt names them next.

    Args:
        is_outdated: whether one of the Lora extension's LoRAs is meant.

    Host: networks.py, ``load_networks``, A1111 1.6.1-1.10.1: takes a LoRA that is active or in ``networks_in_memory``
        (option lora_in_memory_limit) unless the file is newer than ``mtime``.
    """
    extension = lora_extension()
    if extension is None:
        return
    in_memory = getattr(extension, "networks_in_memory", {})
    for name, net in list(in_memory.items()):
        if is_outdated(net):
            in_memory.pop(name, None)
    outdated = [net for net in list(extension.loaded_networks) if is_outdated(net)]
    for net in outdated:
        net.mtime = 0
    if outdated:
        load_again()


def load_again() -> None:
    """Have Forge and its relatives load the LoRAs of the next prompt, even if they are those of the last one.

    Host: networks.py, ``load_networks``, Forge and its relatives: does nothing while ``current_lora_hash`` is the same;
        ``load_lora_state_dict`` keeps what it read, except in Forge-Neo, where it has no cache.
    Host: modules/sd_models.py, ``loaded_sd_models``, reForge: each model that is kept in memory has a text of its own.
    """
    from modules import sd_models

    extension = lora_extension()
    if extension is None or load_network_reads_file(extension):
        return
    getattr(extension.load_lora_state_dict, "cache_clear", lambda: None)()
    data = sd_models.model_data
    for model in [data.sd_model, *getattr(data, "loaded_sd_models", ())]:
        model.current_lora_hash = ""


def apply_again() -> None:
    """Have every layer with a LoRA in it restored, and its LoRAs applied again, when the model is used next.

    Host: networks.py, ``network_apply_weights``, A1111 1.6.1-1.10.1: compares only names and multipliers in
        ``network_current_names``, so a file that was replaced under its old name would keep its old weights, in all
        models that are kept in memory. A layer with names there has a backup.
    Host: backend/patcher/lora.py, ``LoraLoader.refresh``, Forge: compares only file names and multipliers with
        ``loaded_hash``. reForge, Forge-classic and Forge-Neo have no such attribute; they merge again whenever
        ``load_networks`` loads.
    """
    from modules import sd_models

    data = sd_models.model_data
    for loader in _forge_loaders(data.sd_model):
        loader.loaded_hash = _NO_LORAS_OF_FORGE
    for model in [data.sd_model, *getattr(data, "loaded_sd_models", ())]:
        for module in model.modules() if hasattr(model, "modules") else ():
            if getattr(module, "network_current_names", ()) != ():
                module.network_current_names = _REPLACED


def _forge_loaders(model: Any) -> list[Any]:
    """What merges LoRAs into the UNet and the text encoders of one of Forge's models; empty in other webuis.

    Host: backend/patcher/base.py, ``ModelPatcher.lora_loader``, and backend/patcher/clip.py, ``CLIP.patcher``, Forge.
    """
    objects = getattr(model, "forge_objects_original", None)
    patchers = (getattr(objects, "unet", None), getattr(getattr(objects, "clip", None), "patcher", None))
    found = [getattr(getattr(patcher, "model", None), "lora_loader", None) for patcher in patchers]
    return [loader for loader in found if loader is not None]
