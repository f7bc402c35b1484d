"""What the engine tells (events) and what it can be asked (control)."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Control",
    "Event",
    "Finished",
    "MemoryTold",
    "Prepared",
    "Preparing",
    "SampleReady",
    "Saved",
    "StepDone",
    "Warned",
]


@dataclass(frozen=True)
class Preparing:
    """Work before step 1: ``done`` of ``total`` units of ``stage`` ("latents", …) are finished."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Prepared:
    """Preparation is over: the run goes from ``first_step`` (0 when new) to ``total_steps``."""

    first_step: int
    total_steps: int
    trainable_count: int


@dataclass(frozen=True)
class MemoryTold:
    """The device's memory, in bytes: before the first step an estimate, after the last one with the peak.

    Attributes:
        needed: estimated need beyond the loaded model.
        free: free before the run; None where that is not known.
        peak: the most that was in use, the model's weights included; None before the end, or where it is not known.
        saves: whether the run takes longer to need less.
    """

    needed: int
    free: int | None
    peak: int | None
    saves: bool


@dataclass(frozen=True)
class StepDone:
    """One optimizer step.

    Attributes:
        step: number of finished steps, 1 … total.
        loss: mean weighted loss of the step's items, dimensionless; NaN when the step was skipped.
        learning_rates: group name → learning rate used.
        grad_norms: group name → gradient norm before clipping.
        embedding_norms: embedding name → mean vector norm relative to the start value.
        seconds: wall time of the step in s.
    """

    step: int
    loss: float
    learning_rates: dict[str, float] = field(default_factory=dict)
    grad_norms: dict[str, float] = field(default_factory=dict)
    embedding_norms: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class SampleReady:
    """A preview image made after ``step`` finished steps (0: before training)."""

    step: int
    index: int
    prompt: str
    image: Image.Image
    infotext: str


@dataclass(frozen=True)
class Saved:
    """A file was written: ``kind`` is ``"bundle"`` or ``"state"``."""

    step: int
    kind: str
    path: Path


@dataclass(frozen=True)
class Warned:
    """Something the user should know that does not end the run."""

    message: str


@dataclass(frozen=True)
class Finished:
    """The run is over: ``outcome`` is ``"done"``, ``"stopped"``, ``"discarded"`` or ``"failed"``."""

    step: int
    outcome: str
    bundle_path: Path | None
    message: str = ""


Event = Preparing | MemoryTold | Prepared | StepDone | SampleReady | Saved | Warned | Finished


class Control:
    """Requests to a running engine; every method may be called from any thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._discard = threading.Event()
        self._save = threading.Event()
        self._sample = threading.Event()

    def stop(self, *, discard: bool = False) -> None:
        """Ask the run to end after the current step; keep what is trained unless ``discard``."""
        if discard:
            self._discard.set()
        self._stop.set()

    def save_now(self) -> None:
        """Ask for a bundle and a state after the current step."""
        self._save.set()

    def sample_now(self) -> None:
        """Ask for the preview images after the current step."""
        self._sample.set()

    @property
    def stop_requested(self) -> bool:
        """Whether the run should end."""
        return self._stop.is_set()

    @property
    def discard_requested(self) -> bool:
        """Whether the result is to be thrown away."""
        return self._discard.is_set()

    def take_save(self) -> bool:
        """Return whether a save was asked for, and forget the request."""
        asked = self._save.is_set()
        self._save.clear()
        return asked

    def take_sample(self) -> bool:
        """Return whether samples were asked for, and forget the request."""
        asked = self._sample.is_set()
        self._sample.clear()
        return asked
