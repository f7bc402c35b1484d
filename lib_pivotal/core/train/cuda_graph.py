"""Records work on a GPU once and starts it again as a whole, without Python in between."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch

from lib_pivotal.core.torch_version import torch_version
from lib_pivotal.core.train.broken_recording import recover

__all__ = [
    "CudaGraphs",
    "Recorder",
    "Work",
    "are_close",
    "can_record",
    "tolerance_for",
]

Work = Callable[[], torch.Tensor]
"""Work on tensors that stay where they are; returns one of its results."""

_DRIVER_BYTES = 2**30
"""What CUDA itself may keep for a graph: up to CUDA 12.4, 64 KiB for each of the 13,000 kernels of a step of SDXL.

Source: https://docs.pytorch.org/docs/stable/generated/torch.cuda.CUDAGraph.html
"""
_ALLOCATOR_SETTINGS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


class Recorder(Protocol):
    """Records work."""

    def warm_up(self, work: Work) -> torch.Tensor:
        """Do work that will be recorded, so that libraries have made their preparations; returns its result."""
        ...

    def record(self, work: Work) -> tuple[Callable[[], None], torch.Tensor]:
        """Record work without doing it.

        Returns:
            What does the work, and the tensor that then holds the result.

        Raises:
            RuntimeError: something in the work cannot be recorded, such as a wait for the GPU.
        """
        ...

    def has_room(self) -> bool:
        """Whether there is memory for another recording and for usual work next to it."""
        ...

    def clear(self) -> None:
        """Give back the memory of all recordings, none of which exists any more."""
        ...


def can_record(device: torch.device) -> bool:
    """Whether work on a device can be recorded as CUDA graphs.

    Not with AMD's version of torch, nor with torch 2.0, where other threads must not use the GPU meanwhile. Nor with
    settings of the memory allocator, since some of them give memory back during a recording, which ends it.
    """
    if device.type != "cuda" or torch.version.hip or torch_version() < (2, 1):
        return False
    return torch.cuda.get_allocator_backend() == "native" and not any(map(os.environ.get, _ALLOCATOR_SETTINGS))


def tolerance_for(dtype: torch.dtype) -> float:
    """Permitted relative difference between a graph's results and the usual ones, since sums vary in their order.

    Args:
        dtype: in which products are computed. Gradients of a small UNet whose attention differed in last bits were 2e-3
            apart in fp16, and 1.5e-2 in bf16.
    """
    return max(1e-2, 16 * torch.finfo(dtype).eps)


def are_close(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor], tolerance: float) -> bool:
    """Whether the results of a graph are those of the usual work.

    Args:
        expected: the usual results, finite.
        found: the graph's, in the same order.
        tolerance: see :func:`tolerance_for`.
    """
    for right, own in zip(expected, found, strict=True):
        difference = torch.linalg.vector_norm((right - own).float())
        if not bool(difference <= tolerance * torch.linalg.vector_norm(right.float())):
            return False
    return True


class CudaGraphs:
    """Records work as CUDA graphs, which share their memory, because only one runs at a time.

    Args:
        device: the GPU, which the thread may not have chosen as its current one.
        needed: bytes that the recorded work needs.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, device: torch.device, needed: int) -> None:
        self._device = device
        self._needed = needed + _DRIVER_BYTES
        with torch.cuda.device(device):
            self._stream = _recording_stream(device)
            self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> torch.Tensor:
        """Do the work on the stream of the recordings, as torch requires before one."""
        with torch.cuda.device(self._device):
            usual = torch.cuda.current_stream()
            self._stream.wait_stream(usual)
            with torch.cuda.stream(self._stream):
                result = work()
            usual.wait_stream(self._stream)
        return result

    def record(self, work: Work) -> tuple[Callable[[], None], torch.Tensor]:
        """Record a graph.

        Raises:
            RuntimeError: something in the work cannot be part of a graph, or memory does not suffice.
        """
        # A recording that fails because the CPU waits for the GPU does harm, see ``broken_recording.py``.
        with _no_waits():
            self.warm_up(work)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), _no_collection():
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            with torch.cuda.stream(self._stream):
                result = self._recorded(graph, work)
        return graph.replay, result

    def _recorded(self, graph: torch.cuda.CUDAGraph, work: Work) -> torch.Tensor:
        # Other threads of a webui may use the GPU meanwhile.
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            return work()
        finally:
            try:
                graph.capture_end()
            except RuntimeError:
                recover(self._pool)
                raise

    def has_room(self) -> bool:
        """Whether there is memory for another graph and for usual work next to it.

        Torch's statistics do not help, because they count the memory of graphs as free.
        """
        with torch.cuda.device(self._device):
            torch.cuda.empty_cache()
            free, _total = torch.cuda.mem_get_info()
        return int(free) >= self._needed

    def clear(self) -> None:
        """Give back the memory of all graphs, none of which exists any more."""
        # Torch refuses to record into memory whose last graph is gone.
        self._pool = torch.cuda.graph_pool_handle()
        # After an error of CUDA, this would fail again and hide the first one.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


@functools.cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all recordings on a GPU and of what comes before them.

    Libraries keep working memory for each stream. So they have it before a recording and do not take it from the
    graphs' memory, which could never be given back then; and there is only one such stream in a webui's life.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _no_waits() -> Iterator[None]:
    """Within the context an error is raised where the CPU would wait for the GPU, in other threads, too.

    The webui generates nothing meanwhile.
    """
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Within the context Python collects no garbage, among which may be something whose end breaks a recording."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
