"""Makes torch usable again after CUDA has broken off the recording of a graph.

Otherwise parts of torch go on as if it were recording: random numbers on the GPU raise errors, and the memory cache can
no longer be emptied, so that a webui could not generate. Torch has no public functions for this; these are the ones
with which its own compiler manages the memory of graphs.

Source: torch/csrc/cuda/Module.cpp and aten/src/ATen/cuda/CUDAGraph.cpp of torch 2.1 to 2.13
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import Any

import torch

from lib_pivotal.core.torch_version import torch_version

__all__ = ["recover"]

logger = logging.getLogger("pivotal.train")

_REPAIRED_IN = (2, 13)
"""From this version on, torch itself ends a broken recording."""


def recover(pool: Any) -> None:
    """End a recording whose regular end has failed; not for any other one, which would be ended twice.

    Args:
        pool: handle of the memory of its graph.
    """
    if torch_version() >= _REPAIRED_IN:
        return
    try:
        _end_allocation(pool)
        _end_random_numbers()
    except Exception:
        logger.exception("Torch could not be repaired after a failed recording. Restart the webui before generating.")


def _end_allocation(pool: Any) -> None:
    """The allocator serves the GPU's streams from the general memory again, and forgets the graph's."""
    bindings: Any = torch._C
    device = torch.cuda.current_device()
    try:
        if torch_version() >= (2, 3):
            end = getattr(bindings, "_cuda_endAllocateToPool", None) or bindings._cuda_endAllocateCurrentStreamToPool
            end(device, pool)
        elif _is_recording():
            bindings._cuda_endAllocateCurrentStreamToPool(device)
        else:
            return
    except RuntimeError:
        # It had already been ended, and only the graph could not be made.
        return
    bindings._cuda_releasePool(device, pool)


def _is_recording() -> bool:
    """Whether the allocator of torch 2.1 or 2.2 refuses to empty the cache, as it does during a recording."""
    try:
        torch.cuda.empty_cache()
    except RuntimeError:
        return True
    return False


def _end_random_numbers() -> None:
    """The end of a recording that succeeds, even of nothing, also ends it for the GPU's random numbers."""
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore")
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            pass
