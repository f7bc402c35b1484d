"""Networks that wait in main memory and come to the device when they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

__all__ = ["Resting"]


class Resting:
    """A few networks that are used now and then; until :meth:`rest` they simply stay on the device.

    Args:
        networks: moved together.
        device: where they work.
    """

    def __init__(self, networks: Sequence[torch.nn.Module], device: torch.device) -> None:
        self._networks = list(networks)
        self._device = device
        self.rests = False

    def rest(self) -> None:
        """Move to main memory, and from now on be there between uses."""
        self.rests = True
        for network in self._networks:
            network.to("cpu")

    @contextlib.contextmanager
    def at_hand(self) -> Iterator[None]:
        """Within the context they are on the device."""
        if not self.rests:
            yield
            return
        for network in self._networks:
            network.to(self._device)
        try:
            yield
        finally:
            self.rest()
