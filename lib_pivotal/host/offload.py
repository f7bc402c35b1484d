"""Keeps parts of a model in main memory and moves them to the device only while they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch

from lib_pivotal.core.ports import ModelPart

__all__ = ["Offloading", "move_own_tensors"]


class Offloading:
    """Moves the parts of one model; implements ``core.ports.Offloading``.

    Args:
        parts: the networks of each part; until :meth:`offload` they are left where they are.
        device: where they work.
        offloaded: parts that are in main memory already.
    """

    def __init__(
        self,
        parts: Mapping[ModelPart, Sequence[torch.nn.Module]],
        device: torch.device,
        offloaded: Collection[ModelPart] = (),
    ) -> None:
        self._parts = {part: list(networks) for part, networks in parts.items()}
        self._device = device
        self._offloaded: set[ModelPart] = set(offloaded)
        self._in_use: set[ModelPart] = set()

    def is_offloaded(self, part: ModelPart) -> bool:
        """Whether a part stays in main memory between uses."""
        return part in self._offloaded

    def weight_bytes(self, part: ModelPart) -> int:
        """Size of the weights of a part in bytes, as they are stored."""
        tensors = [tensor for network in self._parts[part] for tensor in network.parameters()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def offload(self, part: ModelPart) -> None:
        """Move a part to main memory; from now on it is on the device only within :meth:`on_device`."""
        self._offloaded.add(part)
        if part not in self._in_use:
            self._move(part, torch.device("cpu"))

    def keep_on_device(self, part: ModelPart) -> None:
        """Move a part to the device, where it stays; does nothing if it stays there already."""
        if part in self._offloaded:
            self._offloaded.remove(part)
            self._move(part, self._device)

    @contextlib.contextmanager
    def on_device(self, part: ModelPart) -> Iterator[None]:
        """Within the context a part is on the device; may be nested."""
        if part in self._in_use:
            yield
            return
        self._in_use.add(part)
        try:
            if part in self._offloaded:
                self._move(part, self._device)
            yield
        finally:
            self._in_use.discard(part)
            if part in self._offloaded:
                self._move(part, torch.device("cpu"))

    def move_back(self) -> None:
        """Move every part to where it belongs, after somebody else has moved them."""
        for part in self._parts:
            is_away = part in self._offloaded and part not in self._in_use
            self._move(part, torch.device("cpu") if is_away else self._device)

    def _move(self, part: ModelPart, device: torch.device) -> None:
        for network in self._parts[part]:
            network.to(device)


def move_own_tensors(module: torch.nn.Module, device: torch.device) -> None:
    """Move a module's own parameters and buffers, but not those of the modules in it."""
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.to(device)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = buffer.to(device)
