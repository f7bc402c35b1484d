"""Notices that the weights of a network have been moved, since recorded work reads them from where they were."""

from __future__ import annotations

import torch

__all__ = ["Places"]


class Places:
    """Where the weights of a network are in memory.

    Args:
        network: the network.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        # Not the parameters themselves: a webui that moves a network may replace them, and they would keep their
        # memory.
        self._weights = [
            (module._parameters, name)
            for module in network.modules()
            for name, weight in module._parameters.items()
            if weight is not None
        ]
        self._known: list[int] = []

    def have_changed(self) -> bool:
        """Whether any weight has moved since the last call; True in the first one."""
        places = [own[name].data_ptr() for own, name in self._weights]  # type: ignore[union-attr]
        before, self._known = self._known, places
        return places != before
