"""Events that the engine sends, and requests to it (control)."""

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
    "MemoryEstimated",
    "Prepared",
    "Preparing",
    "SampleReady",
    "Saved",
    "StepDone",
    "Validated",
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
    """Preparation is complete: the run goes from ``first_step`` (0 for a new run) to ``total_steps``."""

    first_step: int
    total_steps: int
    trainable_count: int


@dataclass(frozen=True)
class MemoryEstimated:
    """GPU memory of the run in bytes: an estimate before the first step, and with the peak after the last one.

    Attributes:
        needed: estimated bytes in addition to the loaded model.
        free: free bytes before the run; None if unknown.
        peak: peak bytes in use, including the model's weights; None before the end or if unknown.
        saves: whether the run saves memory at the cost of speed.
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
        loss: mean weighted loss of the step's items, dimensionless.
        learning_rates: group name → learning rate used.
        grad_norms: group name → gradient norm before clipping.
        embedding_norms: embedding name → mean vector norm relative to its initial value.
        seconds: wall-clock time of the step in seconds.
        weight_changes: part of the model → largest change of a layer's weight by the LoRA, relative to the weight, both
            as Frobenius norms; empty after most steps.
    """

    step: int
    loss: float
    learning_rates: dict[str, float] = field(default_factory=dict)
    grad_norms: dict[str, float] = field(default_factory=dict)
    embedding_norms: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    weight_changes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Validated:
    """Mean weighted losses of the validation images after ``step`` finished steps (0: before training).

    The images, noise levels and noise are the same every time, so that the losses can be compared.

    Attributes:
        caption: with their full captions.
        name_only: with the concept names alone; None if no image mentions a concept.
        initialization: with the initialization text in place of the names; None if no image mentions a concept, or one
            of the concepts has no initialization text.
    """

    step: int
    caption: float
    name_only: float | None = None
    initialization: float | None = None


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
    """A file was written: ``kind`` is ``"bundle"``, ``"state"`` or ``"step"``, a bundle to choose from."""

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


Event = Preparing | MemoryEstimated | Prepared | StepDone | Validated | SampleReady | Saved | Warned | Finished


class Control:
    """Requests to a running engine; every method may be called from any thread."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._discard = threading.Event()
        self._save = threading.Event()
        self._sample = threading.Event()

    def stop(self, *, discard: bool = False) -> None:
        """Request the run to stop after the current step and save the result unless ``discard``."""
        if discard:
            self._discard.set()
        self._stop.set()

    def save_now(self) -> None:
        """Request a bundle and a state after the current step."""
        self._save.set()

    def sample_now(self) -> None:
        """Request preview images after the current step."""
        self._sample.set()

    @property
    def stop_requested(self) -> bool:
        """Whether the run should stop."""
        return self._stop.is_set()

    @property
    def discard_requested(self) -> bool:
        """Whether the result is to be thrown away."""
        return self._discard.is_set()

    def take_save(self) -> bool:
        """Return whether a save was requested, and clear the request."""
        return _take(self._save)

    def take_sample(self) -> bool:
        """Return whether samples were requested, and clear the request."""
        return _take(self._sample)


def _take(request: threading.Event) -> bool:
    # Cleared only if it was set, so that a request that arrives in between is not lost.
    if not request.is_set():
        return False
    request.clear()
    return True
