"""Taking LoRAs and hypernetworks out of the model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from lib_pivotal.host.webui.lora_extension import lora_extension

__all__ = ["hypernetworks_off", "unload_all"]


def unload_all(model: Any) -> None:
    """Take every LoRA out of the weights now, as after a generation whose prompt names none.

    Host: networks.py, ``load_networks`` and ``network_apply_weights``, A1111 1.6.1-1.10.1: a generation leaves its
    LoRAs merged; restoring is lazy, layer by layer, and copies into parameters in place, which fails in grad
    mode on parameters that require a gradient.
    """
    extension = lora_extension()
    if extension is None:
        return
    with torch.no_grad():
        extension.load_networks([])
        for module in model.modules():
            if getattr(module, "network_current_names", ()) != ():
                extension.network_apply_weights(module)


@contextlib.contextmanager
def hypernetworks_off() -> Iterator[None]:
    """Within the context no hypernetwork is active; afterwards the same ones are again.

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
