"""A stage of training the base models that can be interrupted at any time and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lib_pivotal.core.atomic_file import replacing

__all__ = ["Stage"]

_EVERY = 50


class Stage:
    """Keeps weights, moments, moving average and random state in one file.

    Args:
        path: the file; with None nothing is kept.
        weights: trained tensors, changed in place.
        average: their moving average, changed in place.
        optimizer: over ``weights``.
        rng: draws the data.
    """

    def __init__(
        self,
        path: Path | None,
        weights: Sequence[torch.Tensor],
        average: Sequence[torch.Tensor],
        optimizer: torch.optim.Optimizer,
        rng: np.random.Generator,
    ) -> None:
        self._path = path
        self._tensors = [*weights, *average]
        self._optimizer = optimizer
        self._rng = rng

    def resume(self) -> int:
        """Load the file if there is one; returns the number of finished steps."""
        if self._path is None or not self._path.exists():
            return 0
        state = torch.load(self._path, weights_only=False)
        with torch.no_grad():
            for tensor, value in zip(self._tensors, state["tensors"], strict=True):
                tensor.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch"])
        return int(state["step"])

    def keep(self, step: int) -> None:
        """Write the file every 50 finished steps."""
        if self._path is None or step % _EVERY:
            return
        state = {
            "step": step,
            "tensors": [tensor.detach().cpu() for tensor in self._tensors],
            "optimizer": self._optimizer.state_dict(),
            "rng": self._rng.bit_generator.state,
            "torch": torch.get_rng_state(),
        }
        with replacing(self._path) as partial:
            torch.save(state, partial)
