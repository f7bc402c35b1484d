"""Stands in for CUDA graphs: repeats the recorded work in Python, on the same tensors, as a graph does on a GPU."""

from __future__ import annotations

from typing import Any

import torch


class Recorder:
    """Counts recordings and repetitions.

    Args:
        fails: whether recording raises an error.
        forgets: whether a repetition does nothing.
    """

    def __init__(self, *, fails: bool = False, forgets: bool = False) -> None:
        self.fails, self.forgets = fails, forgets
        self.recorded = self.repeated = self.cleared = self.asked = 0
        self.room = True

    def warm_up(self, work: Any) -> Any:
        return work()

    def record(self, work: Any) -> Any:
        self.recorded += 1
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = work()

        def repeat() -> None:
            self.repeated += 1
            if not self.forgets:
                # A graph does what was recorded, whatever is in force now.
                with torch.enable_grad():
                    found = work()
                with torch.no_grad():
                    result.copy_(found)

        return repeat, result

    def has_room(self) -> bool:
        self.asked += 1
        return self.room

    def clear(self) -> None:
        self.cleared += 1
