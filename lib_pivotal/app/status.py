"""The live status of a run, collected from its events; tab and API read it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib_pivotal.app.loss_curve import LossCurve
from lib_pivotal.app.norm_history import NormHistory
from lib_pivotal.app.pace import Pace
from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.config.negative import negative_names
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import PivotalError
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
from lib_pivotal.core.train.out_of_memory import explained
from lib_pivotal.core.train.run_folder import sample_path

__all__ = ["IDLE", "RunStatus", "message_and_hint", "words_to_type"]

logger = logging.getLogger("pivotal.status")

_MAX_POINTS = 500
_MAX_WARNINGS = 50
_STEPS_TO_MEASURE = 20
"""The first steps of a run are slower than the others."""

IDLE: dict[str, Any] = {
    "state": "idle",
    "is_active": False,
    "is_stopping": False,
    "stage": "",
    "step": 0,
    "total_steps": 0,
    "loss": None,
    "seconds_per_step": None,
    "eta_s": None,
    "losses": [],
    "validation": [],
    "norms": {"steps": [], "names": {}},
    "weight_changes": {"steps": [], "names": {}},
    "samples": [],
    "warnings": [],
    "bundle_path": None,
    "bundle_name": None,
    "words": None,
    "memory": None,
    "message": "",
    "hint": "",
    "task_id": None,
    "run_folder": None,
    "log_path": None,
    "config": None,
}
"""The status before the first run."""


def words_to_type(config: TrainConfig, bundle_name: str) -> str:
    """The prompt that uses a bundle: ``<lora:NAME:1>`` and the names of its embeddings.

    With negative embeddings, a second line has the negative prompt in the form in which webuis read it.

    Host: modules/infotext_utils.py (before 1.9 modules/generation_parameters_copypaste.py),
        ``parse_generation_parameters``, A1111 1.6.1-1.10.1: the line begins with ``Negative prompt:``.
    """
    names = ", ".join(concept.name for concept in config.concepts)
    tags = [f"<lora:{bundle_name}:1>", *([f"<lora:{bundle_name}-neg:1>"] if config.negative_rank else [])]
    prompt = " ".join([*tags, names]).strip()
    negatives = negative_names(config.concepts)
    return f"{prompt}\nNegative prompt: {negatives}" if negatives else prompt


def _log(event: Event) -> None:
    if isinstance(event, Warned):
        logger.warning("%s", event.message)
    elif isinstance(event, Saved):
        logger.info("Step %d: saved %s", event.step, event.path)


def message_and_hint(error: BaseException) -> tuple[str, str]:
    """Message and hint of any error, even if formatting the error fails."""
    try:
        error = explained(error, "preparing or training")
        if isinstance(error, PivotalError):
            return error.message, error.hint
        return f"Training failed: {type(error).__name__}: {error}", "See the log for details."
    except Exception:
        return f"Training failed: {type(error).__name__}", "See the log for details."


class RunStatus:
    """Collects a run's events; every method may be called from any thread.

    Args:
        config: settings of the run.
        task_id: ``task(…)``, under which the host shows the progress.
        run_folder: folder that the run writes to.
    """

    def __init__(self, config: TrainConfig, task_id: str, run_folder: Path) -> None:
        self.config = config
        self.task_id = task_id
        self.run_folder = run_folder
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {
            **IDLE,
            "state": "queued",
            "is_active": True,
            "samples": [],
            "validation": [],
            "warnings": [],
            "task_id": task_id,
            "run_folder": str(run_folder),
            "log_path": str(run_folder / "log.txt"),
            "config": to_dict(config),
        }
        self._losses = LossCurve()
        self._pace = Pace(config)
        self._norms = NormHistory()
        self._changes = NormHistory()

    @property
    def is_active(self) -> bool:
        """Whether the run is queued or running."""
        with self._lock:
            return bool(self._values["is_active"])

    @property
    def bundle_path(self) -> Path | None:
        """The last bundle saved."""
        with self._lock:
            path = self._values["bundle_path"]
        return Path(path) if path else None

    @property
    def outcome(self) -> str:
        """How the engine said that the run ended."""
        with self._lock:
            return str(self._values.get("outcome", "done"))

    @property
    def measured_pace(self) -> float:
        """Seconds per step, including samples; 0 until there are enough steps to rely on it."""
        with self._lock:
            is_known = self._pace.step_count >= _STEPS_TO_MEASURE
            return self._pace.seconds_per_step_of_all if is_known else 0.0

    def handle(self, event: Event) -> None:
        """Process one event of the engine."""
        _log(event)
        if isinstance(event, MemoryEstimated):
            self._take_memory(event)
            return
        with self._lock:
            self._pace.handle(event)
            if isinstance(event, Preparing):
                self._values.update(state="preparing", stage=f"{event.stage}: {event.done} of {event.total}")
            elif isinstance(event, Prepared):
                self._values.update(state="training", stage="", step=event.first_step, total_steps=event.total_steps)
            elif isinstance(event, StepDone):
                self._take_step(event)
            elif isinstance(event, Validated):
                self._take_validation(event)
            elif isinstance(event, SampleReady):
                self._take_sample(event)
            elif isinstance(event, Saved):
                self._take_file(event)
            elif isinstance(event, Warned):
                self._values["warnings"] = [*self._values["warnings"], event.message][-_MAX_WARNINGS:]
            elif isinstance(event, Finished):
                # Active until the host's model is restored and the queue is free again.
                self._values.update(state="saving", stage="restoring the model", outcome=event.outcome, eta_s=None)

    def enter(self, state: str, stage: str) -> None:
        """Set state and stage before the engine's first event, or after its last."""
        with self._lock:
            self._values.update(state=state, stage=stage)

    def request_stop(self) -> None:
        """Record that the run has been asked to stop."""
        with self._lock:
            self._values["is_stopping"] = True

    def finish(self, outcome: str = "") -> None:
        """Record that the run has ended and everything has been restored.

        Args:
            outcome: how it ended; empty uses the outcome that the engine reported.
        """
        with self._lock:
            state = outcome or self._values.get("outcome", "done")
            self._values.update(state=state, is_active=False, is_stopping=False, stage="", eta_s=None)

    def fail(self, error: BaseException) -> None:
        """Record that the run has ended with an error and everything has been restored."""
        message, hint = message_and_hint(error)
        with self._lock:
            self._values.update(state="failed", is_active=False, is_stopping=False, stage="", eta_s=None)
            self._values.update(message=message, hint=hint)

    def snapshot(self) -> dict[str, Any]:
        """The current status, serializable as JSON; its lists are copies."""
        with self._lock:
            values = {name: value for name, value in self._values.items() if name != "outcome"}
            values["samples"] = [dict(sample) for sample in values["samples"]]
            values["warnings"] = list(values["warnings"])
            values["validation"] = _some([dict(measured) for measured in values["validation"]])
            values["losses"] = self._losses.points()
            values["norms"] = self._norms.as_dict()
            values["weight_changes"] = self._changes.as_dict()
        return values

    def _take_memory(self, event: MemoryEstimated) -> None:
        amounts = {"needed_mib": event.needed, "free_mib": event.free, "peak_mib": event.peak}
        in_mib = {name: None if count is None else round(count / 2**20) for name, count in amounts.items()}
        logger.info("GPU memory: %s, saving: %s", in_mib, event.saves)
        with self._lock:
            self._values["memory"] = {**in_mib, "saves": event.saves}

    def _take_step(self, event: StepDone) -> None:
        values = self._values
        values["step"] = event.step
        values.update(seconds_per_step=self._pace.seconds_per_step, eta_s=self._pace.seconds_left)
        self._norms.add(event.step, event.embedding_norms)
        self._changes.add(event.step, event.weight_changes)
        if event.step >= values["total_steps"]:
            values.update(state="saving", stage="last images and bundle")
        self._losses.add(event.step, event.loss)
        values["loss"] = self._losses.smoothed

    def _take_validation(self, event: Validated) -> None:
        measured = {
            "step": event.step,
            "caption": event.caption,
            "name_only": event.name_only,
            "initialization": event.initialization,
        }
        self._values["validation"].append(measured)

    def _take_sample(self, event: SampleReady) -> None:
        path = sample_path(self.run_folder, event.step, event.index)
        sample = {"step": event.step, "index": event.index, "prompt": event.prompt, "path": str(path)}
        self._values["samples"].append(sample)

    def _take_file(self, event: Saved) -> None:
        if event.kind == "bundle":
            name = event.path.stem
            self._values.update(bundle_path=str(event.path), bundle_name=name, words=words_to_type(self.config, name))


def _some(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most 500 measurements, evenly chosen, with the last one."""
    stride = -(-len(measured) // _MAX_POINTS) or 1
    return list(measured[::-1][::stride][::-1])
