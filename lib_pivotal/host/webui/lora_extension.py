"""The webui's own Lora extension: which LoRAs are active, and where their files are."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["ActiveLora", "active_loras", "file_of", "find_file", "list_files_again", "lora_extension", "multipliers"]


@dataclass(frozen=True)
class ActiveLora:
    """A LoRA that is active now.

    Attributes:
        label: its name in the prompt.
        path: of its file.
        net: the extension's own object.
    """

    label: str
    path: str
    net: Any


def lora_extension() -> Any:
    """The Lora extension's module, or None if it is disabled.

    Host: extensions-builtin/Lora/networks.py, ``load_networks``, A1111 1.6.1-1.10.1, Forge, reForge: imported under the
        top-level name ``networks``, which another extension may have taken, hence the look at its contents.
    """
    module = sys.modules.get("networks")
    wanted = ("load_networks", "loaded_networks", "available_networks")
    return module if module is not None and all(hasattr(module, name) for name in wanted) else None


def active_loras() -> list[ActiveLora]:
    """The LoRAs that are active now, in the order of the prompt.

    Host: networks.py, ``loaded_networks``, A1111 1.6.1-1.10.1, Forge, reForge: the only list of them that every webui
        updates before it encodes prompts.
    """
    extension = lora_extension()
    if extension is None:
        return []
    found = []
    for net in list(extension.loaded_networks):
        path = file_of(net)
        if path:
            label = getattr(net, "mentioned_name", None) or net.name
            found.append(ActiveLora(str(label), path, net))
    return found


def file_of(net: Any) -> str:
    """The file of one of the extension's LoRAs, or an empty text.

    Host: network.py, ``Network.network_on_disk``, ``NetworkOnDisk.filename``, A1111 1.6.1-1.10.1, Forge, reForge.
    """
    return str(getattr(getattr(net, "network_on_disk", None), "filename", None) or "")


def multipliers() -> tuple[Any, ...]:
    """The multipliers of the active LoRAs, on which encodings depend too.

    Host: network.py, ``Network.te_multiplier``, ``unet_multiplier``, ``dyn_dim``, A1111 1.6.1-1.10.1: as applied, also
        for the LoRA that the settings add (``sd_lora``) and for a second pass that is encoded with the LoRAs of the
        first one.
    Host: networks.py, ``current_lora_hash``, Forge and its relatives: there this text of the model has the multipliers.
    """
    from modules import sd_models

    names = ("te_multiplier", "unet_multiplier", "dyn_dim")
    nets = tuple(tuple(getattr(lora.net, name, None) for name in names) for lora in active_loras())
    return (nets, getattr(sd_models.model_data.sd_model, "current_lora_hash", ""))


def find_file(name: str) -> str | None:
    """The file that a name in a ``<lora:…>`` tag stands for, or None.

    Host: networks.py, ``available_network_aliases``, ``forbidden_network_aliases``, A1111 1.6.1-1.10.1.
    """
    extension = lora_extension()
    if extension is None:
        return None
    known = dict(getattr(extension, "available_network_aliases", {}))
    if name.lower() in getattr(extension, "forbidden_network_aliases", {}):
        known = {}
    on_disk = known.get(name) or extension.available_networks.get(name)
    return str(on_disk.filename) if on_disk is not None else None


def list_files_again() -> None:
    """Make the webui list its LoRA files again.

    Host: networks.py, ``list_available_networks``, A1111 1.6.1-1.10.1, Forge, reForge: what the refresh button calls.
    """
    extension = lora_extension()
    if extension is not None and hasattr(extension, "list_available_networks"):
        extension.list_available_networks()
