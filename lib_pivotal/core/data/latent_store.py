"""Memory for the latents of a data set: what does not fit into a limit is in a temporary file."""

from __future__ import annotations

import logging
import mmap
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["LatentItem", "LatentStore"]

logger = logging.getLogger("pivotal.data")

_IN_MEMORY_BYTES = 256 * 2**20
"""Latents up to this size stay in memory: about 2000 images of 512 px."""
_CHUNK_BYTES = 64 * 2**20


class LatentItem(NamedTuple):
    """Posterior of one image, which is kept instead of a sample so that every step can draw its own.

    Attributes:
        moments: mean and standard deviation, fp32 on the CPU, shape ``(2, C, h, w)``.
    """

    moments: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """Shape ``(C, h, w)``."""
        return self.moments[0]

    @property
    def std(self) -> torch.Tensor:
        """Shape ``(C, h, w)``."""
        return self.moments[1]


class LatentStore:
    """Keeps copies of items. The system can move those in the file out of memory and back.

    The file has no name or is deleted by the system, so that nothing is left when the process is killed.

    Args:
        folder: where the file is made when it is needed; None keeps all items in memory.
        in_memory: number of bytes that stay in memory.
        chunk: number of bytes by which the file grows.
    """

    def __init__(self, folder: Path | None, *, in_memory: int = _IN_MEMORY_BYTES, chunk: int = _CHUNK_BYTES) -> None:
        self._folder = folder
        self._left = in_memory
        self._chunk = chunk
        self._free = torch.empty(0)

    def keep(self, mean: torch.Tensor, std: torch.Tensor) -> LatentItem:
        """A copy of a mean and a standard deviation, each of shape ``(C, h, w)``."""
        moments = self._room(2 * mean.numel()).view(2, *mean.shape)
        moments[0], moments[1] = mean, std
        return LatentItem(moments)

    def _room(self, count: int) -> torch.Tensor:
        """Uninitialized memory for a number of fp32 values."""
        size = 4 * count
        if self._folder is None or size <= self._left:
            self._left -= size
            return torch.empty(count)
        if count > len(self._free):
            try:
                self._free = _mapped(self._folder, max(size, self._chunk))
            except OSError as error:
                logger.warning("Latents stay in memory, because no temporary file can be written: %s", error)
                self._folder = None
                return torch.empty(count)
        room, self._free = self._free[:count], self._free[count:]
        return room


def _mapped(folder: Path, size: int) -> torch.Tensor:
    """New fp32 values in a temporary file of ``size`` bytes, which exists as long as the tensor.

    Raises:
        OSError: the file cannot be written, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        # All of it is written now: a full disk would otherwise end the process when the memory is used.
        zeros = bytes(2**20)
        for start in range(0, size, len(zeros)):
            file.write(zeros[: size - start])
        file.flush()
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.float32)
