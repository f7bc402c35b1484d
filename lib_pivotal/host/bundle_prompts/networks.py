"""The webui's own Lora extension: which LoRAs act, and where their files are."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

__all__ = ["ActiveLora", "active_loras", "find_file", "lora_extension", "strengths"]


@dataclass(frozen=True)
class ActiveLora:
    """A LoRA that acts now.

    Attributes:
        label: as the prompt names it.
        path: of its file.
        net: the extension's own object.
    """

    label: str
    path: str
    net: Any


def lora_extension() -> Any:
    """The Lora extension's module, or None where it is switched off.

    Host: extensions-builtin/Lora/networks.py, A1111 1.6.1-1.10.1, Forge, reForge: imported under the bare name
        ``networks``, which another extension may have taken, hence the look at its contents.
    """
    module = sys.modules.get("networks")
    wanted = ("load_networks", "loaded_networks", "available_networks")
    return module if module is not None and all(hasattr(module, name) for name in wanted) else None


def active_loras() -> list[ActiveLora]:
    """LoRAs that act now, in the prompt's order.

    Host: networks.py, ``loaded_networks``, A1111 1.6.1-1.10.1, Forge, reForge: the one statement that every host
        keeps true before it encodes prompts.
    """
    extension = lora_extension()
    if extension is None:
        return []
    found = []
    for net in list(extension.loaded_networks):
        path = getattr(getattr(net, "network_on_disk", None), "filename", None)
        if path:
            label = getattr(net, "mentioned_name", None) or net.name
            found.append(ActiveLora(str(label), str(path), net))
    return found


def strengths() -> tuple[Any, ...]:
    """How strongly each of the LoRAs acts now, which decides encodings too.

    Host: network.py, ``Network.te_multiplier``, ``unet_multiplier``, ``dyn_dim``, A1111 1.6.1-1.10.1: as applied, also
        for the LoRA that the settings add (``sd_lora``) and where a second pass is encoded with the first one's.
    Host: networks.py, ``current_lora_hash``, Forge and its kin: there the multipliers are in this text of the model.
    """
    from modules import sd_models

    names = ("te_multiplier", "unet_multiplier", "dyn_dim")
    nets = tuple(tuple(getattr(lora.net, name, None) for name in names) for lora in active_loras())
    return (nets, getattr(sd_models.model_data.sd_model, "current_lora_hash", ""))


def find_file(name: str) -> str | None:
    """The file that a tag's name means, or None.

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
