"""Parts of a model that wait in main memory and come to the device only while they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch

from lib_pivotal.core.ports import ModelPart

__all__ = ["Offloading"]


class Offloading:
    """Moves the parts of one model; implements ``core.ports.Offloading``.

    Args:
        parts: the networks of each part; until :meth:`offload` they are left where they are.
        device: where they work.
    """

    def __init__(self, parts: Mapping[ModelPart, Sequence[torch.nn.Module]], device: torch.device) -> None:
        self._parts = {part: list(networks) for part, networks in parts.items()}
        self._device = device
        self._offloaded: set[ModelPart] = set()
        self._in_use: set[ModelPart] = set()

    def is_offloaded(self, part: ModelPart) -> bool:
        """Whether a part stays in main memory between uses."""
        return part in self._offloaded

    def offload(self, part: ModelPart) -> None:
        """Move a part to main memory; from now on it is on the device only within :meth:`on_device`."""
        self._offloaded.add(part)
        if part not in self._in_use:
            self._move(part, torch.device("cpu"))

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

    def _move(self, part: ModelPart, device: torch.device) -> None:
        for network in self._parts[part]:
            network.to(device)
