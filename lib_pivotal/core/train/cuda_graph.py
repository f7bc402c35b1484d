"""Records work on a GPU once and starts it again as a whole, without Python in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import torch

__all__ = ["CudaGraphs", "Recorder", "Work"]

Work = Callable[[], torch.Tensor]
"""Work on tensors that stay where they are; returns one of its results."""


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


class CudaGraphs:
    """Records work as CUDA graphs, which share their memory, because only one runs at a time.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> torch.Tensor:
        """Do the work on another stream, as torch requires before a recording."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = work()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def record(self, work: Work) -> tuple[Callable[[], None], torch.Tensor]:
        """Record a graph.

        Raises:
            RuntimeError: something in the work cannot be part of a graph, or memory does not suffice.
        """
        # Recording fails where the CPU waits for the GPU, and then torch's random numbers on the GPU fail, too.
        with _no_waits():
            work()
        graph = torch.cuda.CUDAGraph()
        # Other threads of a webui may use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result


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
