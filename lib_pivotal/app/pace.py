"""How long a run still takes: steps, and what happens between them, each with its own mean time."""

from __future__ import annotations

import time

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Event, Prepared, SampleReady, Saved, StepDone, Validated
from lib_pivotal.core.train.kept_steps import kept_steps

__all__ = ["Pace"]

_STEPS, _SAMPLES, _MEASUREMENTS, _SAVES, _KEPT = "steps", "samples", "measurements", "saves", "kept steps"
_KINDS = {StepDone: _STEPS, SampleReady: _SAMPLES, Validated: _MEASUREMENTS, Saved: _SAVES}


class Pace:
    """Measures the time between events, and adds it to what the later one reports.

    Args:
        config: settings of the run, which say how often something is made between the steps.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._prompts = len([line for line in config.sample_prompts.splitlines() if line.strip()])
        self._prompts = self._prompts or len(config.concepts)
        self._seconds = dict.fromkeys((*_KINDS.values(), _KEPT), 0.0)
        self._counts = dict.fromkeys((*_KINDS.values(), _KEPT), 0)
        self._last = 0.0
        self._step = 0
        self._total = 0

    def handle(self, event: Event) -> None:
        """Take the time of an event; anything before the run is prepared does not count."""
        now = time.monotonic()
        # Bundles to choose from come without a state, which is larger.
        kind = _KEPT if isinstance(event, Saved) and event.kind == "step" else _KINDS.get(type(event))
        if isinstance(event, Prepared):
            self._step, self._total = event.first_step, event.total_steps
        elif kind is not None:
            self._seconds[kind] += now - self._last
            # A bundle and its state are saved together.
            self._counts[kind] += not (isinstance(event, Saved) and event.kind == "state")
        if isinstance(event, StepDone):
            self._step = event.step
        self._last = now

    @property
    def step_count(self) -> int:
        """Number of steps that were measured."""
        return self._counts[_STEPS]

    @property
    def seconds_per_step_of_all(self) -> float:
        """Mean time of a step with its share of the samples, measurements and saves so far."""
        return sum(self._seconds.values()) / max(self._counts[_STEPS], 1)

    @property
    def seconds_per_step(self) -> float:
        """Mean time of a step alone."""
        return self._mean(_STEPS)

    @property
    def seconds_left(self) -> float:
        """Time until the end, with samples, measurements and saves, as far as they have been made once."""
        config = self._config
        between = {
            _SAMPLES: self._prompts * self._times(config.sample_every, with_last=bool(config.sample_every)),
            _MEASUREMENTS: self._times(config.validate_every, with_last=True),
            _SAVES: self._times(config.save_every, with_last=True),
            _KEPT: sum(step > self._step for step in kept_steps(config, self._total)),
        }
        return self._mean(_STEPS) * (self._total - self._step) + sum(
            self._mean(kind) * count for kind, count in between.items()
        )

    def _mean(self, kind: str) -> float:
        return self._seconds[kind] / max(self._counts[kind], 1)

    def _times(self, every: int, *, with_last: bool) -> int:
        """How often something happens that is due every N steps, and after the last step."""
        if not every:
            return int(with_last)
        return self._total // every - self._step // every + (with_last and self._total % every != 0)
