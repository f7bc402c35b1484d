"""The low-memory modes of the webui: ``--medvram``, ``--medvram-sdxl`` and ``--lowvram``.

In these modes the webui keeps a model in main memory, and hooks on its networks move them to the device one after the
other during a generation. That saves nothing in training, where the backward pass needs all of the UNet at once, so the
hooks are removed for a run and the run moves the parts itself, see ``host.offload``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch

from lib_pivotal.host.offload import move_own_tensors

__all__ = ["LowMemoryMode", "is_in_low_memory_mode"]


def is_in_low_memory_mode(model: Any) -> bool:
    """Whether the webui moves the parts of a model during each generation.

    Host: modules/sd_models_types.py, ``lowvram``, A1111 1.6.1-1.10.1: set on every model that has been on the device.
    """
    return bool(getattr(model, "lowvram", False))


class LowMemoryMode:
    """Suspends and resumes the low-memory mode of a model.

    Args:
        model: the webui's model, in such a mode.

    Host: modules/lowvram.py, ``setup_for_low_vram``, A1111 1.6.1-1.10.1: installs the function ``send_me_to_gpu`` as a
    forward pre-hook without keeping the handles, and replaces ``encode`` and ``decode`` of the VAE. With ``lowvram``
    set, it and ``apply`` do nothing, so the hooks that are removed here are put back rather than installed again.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._hooks: list[tuple[torch.nn.Module, int, Callable[..., Any]]] = []
        self._methods: dict[str, Any] = {}
        self._places: list[tuple[torch.nn.Module, torch.device]] = []

    def suspend(self) -> None:
        """Remove the hooks; the parts are where they are between two generations, which is mostly main memory.

        Host: modules/lowvram.py, ``send_everything_to_cpu``, A1111 1.6.1-1.10.1: moves the network that the hooks
        moved last, and forgets it.
        """
        from modules import lowvram

        lowvram.send_everything_to_cpu()
        self._places = list(_places(self._model))
        for module in self._model.modules():
            for number, hook in list(module._forward_pre_hooks.items()):
                if _is_the_webuis(hook):
                    self._hooks.append((module, number, hook))
                    del module._forward_pre_hooks[number]
        methods = self._model.first_stage_model.__dict__
        self._methods = {name: methods.pop(name) for name in ("encode", "decode") if _is_the_webuis(methods.get(name))}
        self._model.lowvram = False

    def resume(self) -> None:
        """Put the hooks back, and then all parts to where they were when the mode was suspended."""
        self._model.lowvram = True
        self._model.first_stage_model.__dict__.update(self._methods)
        while self._hooks:
            module, number, hook = self._hooks.pop()
            module._forward_pre_hooks[number] = hook
            # They ran before those that came later.
            module._forward_pre_hooks.move_to_end(number, last=False)
        for module, device in self._places:
            # Not those of the modules in it: the model's own buffers are on the GPU, the rest mostly is not.
            move_own_tensors(module, device)

    @contextlib.contextmanager
    def resumed(self) -> Iterator[None]:
        """Within the context the mode is on, as for any generation."""
        try:
            self.resume()
            yield
        finally:
            self.suspend()


def _is_the_webuis(function: Any) -> bool:
    return getattr(function, "__module__", None) == "modules.lowvram"


def _places(model: Any) -> Iterator[tuple[torch.nn.Module, torch.device]]:
    """Modules that have weights of their own, each before those in it, and where these are."""
    for module in model.modules():
        first = next(chain(module.parameters(recurse=False), module.buffers(recurse=False)), None)
        if first is not None:
            yield module, first.device
