"""The UNet's embeddings of all timesteps, computed once."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["TimestepTable"]

_NAME = "timestep_embedding"


class TimestepTable:
    """Looks up what the webui's own function returns for a timestep.

    Most of these functions compute frequencies on the CPU and copy them to the GPU, for which the CPU waits until the
    GPU has done all earlier work; and no such copy can be part of a CUDA graph.

    Args:
        unet: the webui's UNet.
        count: number of timesteps.

    Host: ldm/modules/diffusionmodules/util.py and sgm/modules/diffusionmodules/util.py, ``timestep_embedding``, A1111
        1.6.1-1.10.1; backend/nn/unet.py, ``timestep_embedding``, Forge: a function of the module of the UNet's class,
        which its forward function calls with the timesteps and the number of channels. For SD1 and SD2, A1111 1.10.1
        replaces it by one that does not wait.
    """

    def __init__(self, unet: Any, count: int) -> None:
        modules = [sys.modules.get(base.__module__) for base in type(unet).__mro__]
        self._module = next((module for module in modules if hasattr(module, _NAME)), None)
        self._count = count
        self._tables: dict[Any, torch.Tensor] = {}

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Within the context the UNet looks up whole timesteps, which it must be called with."""
        if self._module is None:
            yield
            return
        original = getattr(self._module, _NAME)

        def look_up(timesteps: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
            # Some of these functions choose the type of the result by that of the timesteps.
            key = (timesteps.device, timesteps.dtype, arguments, tuple(options.items()))
            table = self._tables.get(key)
            if table is None:
                with torch.no_grad():
                    all_timesteps = torch.arange(self._count, device=timesteps.device).to(timesteps.dtype)
                    table = self._tables[key] = original(all_timesteps, *arguments, **options)
            return table.index_select(0, timesteps.long())

        setattr(self._module, _NAME, look_up)
        try:
            yield
        finally:
            setattr(self._module, _NAME, original)
