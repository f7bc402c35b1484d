"""A run's progress on the console, on one line that is updated in place."""

from __future__ import annotations

import contextlib
import math
import sys
from typing import Any

from tqdm import tqdm

from lib_pivotal.core.events import (
    Event,
    Finished,
    MemoryEstimated,
    Prepared,
    Preparing,
    SampleReady,
    Saved,
    StepDone,
    Validated,
    Warned,
)

__all__ = ["ConsoleProgress"]


class ConsoleProgress:
    """Shows events on stderr; implements ``core.ports.ProgressSink``."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""

    def handle(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Preparing):
            self._advance(event.stage, event.done, event.total)
        elif isinstance(event, Prepared):
            self.close()
            self._advance("training", event.first_step, event.total_steps)
        elif isinstance(event, StepDone):
            if self._bar is not None and math.isfinite(event.loss):
                self._bar.set_postfix_str(f"loss {event.loss:.4f}", refresh=False)
            self._advance("training", event.step, 0)
        elif isinstance(event, Finished):
            self.close()
        elif text := _line(event):
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """End the line."""
        if self._bar is not None:
            # A closed terminal is not a reason to fail.
            with contextlib.suppress(OSError, ValueError):
                self._bar.close()
            self._bar = None

    def _advance(self, stage: str, done: int, total: int) -> None:
        if self._bar is None or stage != self._stage:
            self.close()
            self._stage = stage
            self._bar = tqdm(desc=stage, total=total or None, initial=done, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)


def _line(event: Event) -> str:
    """What is shown on a line of its own; empty for other events."""
    if isinstance(event, Validated):
        return f"step {event.step}: validation: {_measured(event)}"
    if isinstance(event, SampleReady):
        return f"step {event.step}: sample {event.index} ({event.prompt})"
    if isinstance(event, Saved):
        return f"step {event.step}: saved {event.path}"
    if isinstance(event, MemoryEstimated) and event.peak is not None:
        return f"peak GPU memory: {event.peak / 2**30:.1f} GiB including the model"
    return f"note: {event.message}" if isinstance(event, Warned) else ""


def _measured(event: Validated) -> str:
    kinds = (
        ("full caption", event.caption),
        ("name only", event.name_only),
        ("initialization text", event.initialization),
    )
    return ", ".join(f"{kind} {loss:.4f}" for kind, loss in kinds if loss is not None)
