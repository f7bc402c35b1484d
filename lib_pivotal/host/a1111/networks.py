"""The built-in Lora extension and hypernetworks: taking them out of the model, and renewing the list."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

__all__ = ["forget_file", "hypernetworks_off", "list_again", "unload_all"]

_REPLACED = (("replaced by pivotal tuning", 0.0, 0.0, None),)
_log = logging.getLogger("pivotal.host.networks")


def _lora_extension() -> Any:
    """The built-in extension's module, or None where it is disabled.

    Host: extensions-builtin/Lora/networks.py, A1111 1.6.1-1.10.1: imported under the top-level name ``networks``;
    another extension may have taken that name, hence the look at its functions.
    """
    module = sys.modules.get("networks")
    wanted = ("load_networks", "network_apply_weights", "loaded_networks", "list_available_networks")
    return module if module is not None and all(hasattr(module, name) for name in wanted) else None


def unload_all(model: Any) -> None:
    """Take every LoRA out of the weights now, as after a generation whose prompt names none.

    Host: networks.py, ``load_networks`` and ``network_apply_weights``, A1111 1.6.1-1.10.1: a generation leaves its
    LoRAs merged; restoring is lazy, layer by layer, and copies into parameters in place, which fails in grad
    mode on parameters that require a gradient.
    """
    extension = _lora_extension()
    if extension is None:
        return
    with torch.no_grad():
        extension.load_networks([])
        for module in model.modules():
            if getattr(module, "network_current_names", ()) != ():
                extension.network_apply_weights(module)


def list_again() -> None:
    """Let the webui look for LoRA files anew."""
    extension = _lora_extension()
    if extension is not None:
        extension.list_available_networks()


def forget_file(path: Path, model: Any) -> None:
    """Make the next generation read ``path`` from disk, although a LoRA of this name was in use.

    Args:
        path: the file that was replaced.
        model: the one in use; others in memory are looked after, too.

    Host: networks.py, ``load_networks``, A1111 1.6.1-1.10.1: takes what acts or is in ``networks_in_memory`` (option
    lora_in_memory_limit) unless the file is newer than ``mtime``.

    Host: networks.py, ``network_apply_weights``, A1111 1.6.1-1.10.1: compares names and multipliers in
    ``network_current_names`` only, so a file replaced under its old name would keep acting with its old weights. Names
    that no LoRA has make it restore a layer from its backup and apply what acts anew.
    """
    from modules import sd_models

    extension = _lora_extension()
    if extension is None:
        return
    for net in list(extension.loaded_networks):
        if _same_file(net, path):
            net.mtime = 0
    kept = getattr(extension, "networks_in_memory", {})
    for name in [name for name, net in list(kept.items()) if _same_file(net, path)]:
        kept.pop(name, None)
    for kept_model in [model, *sd_models.model_data.loaded_sd_models]:
        for module in kept_model.modules() if hasattr(kept_model, "modules") else ():
            if getattr(module, "network_current_names", ()) != ():
                module.network_current_names = _REPLACED


def _same_file(net: Any, path: Path) -> bool:
    filename = getattr(getattr(net, "network_on_disk", None), "filename", None)
    return bool(filename) and os.path.realpath(filename) == os.path.realpath(path)


@contextlib.contextmanager
def hypernetworks_off() -> Iterator[None]:
    """Within the context no hypernetwork acts; afterwards the same ones do again.

    Host: modules/hypernetworks/hypernetwork.py, ``apply_hypernetworks``, A1111 1.6.1-1.10.1: every attention layer
    reads the list ``shared.loaded_hypernetworks``, which the last generation left filled.
    """
    from modules import shared

    kept = list(shared.loaded_hypernetworks)
    shared.loaded_hypernetworks.clear()
    try:
        yield
    finally:
        shared.loaded_hypernetworks[:] = kept
