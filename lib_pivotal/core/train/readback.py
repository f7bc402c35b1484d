"""Copies values from the device without synchronization; on a GPU they arrive a step or two later."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch

__all__ = ["Readback"]


class Readback:
    """A queue of small tensors on their way to the CPU."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, torch.Tensor, Any]] = deque()

    def push(self, step: int, values: torch.Tensor) -> None:
        """Send fp32 values, shape ``(n,)``, that belong to ``step``."""
        if values.device.type != "cuda":
            self._waiting.append((step, values, None))
            return
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        # That of another GPU, if the current device of torch is not the one that trains.
        arrived.record(torch.cuda.current_stream(values.device))
        self._waiting.append((step, host, arrived))

    def arrived(self, *, wait: bool = False) -> list[tuple[int, list[float]]]:
        """Steps whose values have arrived, oldest first; ``wait`` waits for all of them.

        At most two steps stay in flight, so that a NaN loss is noticed soon.
        """
        result = []
        while self._waiting:
            step, values, event = self._waiting[0]
            if event is not None and not event.query():
                if not wait and len(self._waiting) <= 2:
                    break
                event.synchronize()
            self._waiting.popleft()
            result.append((step, values.tolist()))
        return result
