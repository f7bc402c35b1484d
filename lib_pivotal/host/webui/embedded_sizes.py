"""SDXL's embeddings of image sizes, computed once for each size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lib_pivotal.core.ports import ImageSize

__all__ = ["EmbeddedSizes"]


class EmbeddedSizes:
    """Embeddings of the sizes of images.

    A data set has few sizes, and for embedding one the CPU waits for the GPU, see ``timestep_table.py``.

    Args:
        embed: takes a size and a device and returns the embedding, fp32, shape ``(1, width)``.
    """

    def __init__(self, embed: Callable[[ImageSize, torch.device], torch.Tensor]) -> None:
        self._embed = embed
        self._known: dict[tuple[ImageSize, torch.device], torch.Tensor] = {}

    def of(self, sizes: Sequence[ImageSize], device: torch.device) -> torch.Tensor:
        """The embeddings of several sizes, fp32, shape ``(B, width)``."""
        return torch.cat([self._one(size, device) for size in sizes])

    def _one(self, size: ImageSize, device: torch.device) -> torch.Tensor:
        found = self._known.get((size, device))
        if found is None:
            with torch.no_grad():
                found = self._known[size, device] = self._embed(size, device)
        return found
