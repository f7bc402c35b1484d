"""Compares the parts of a bundle: makes one image per part and prompt, in the background, and keeps the result."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.app.bundle_library import find_bundle
from lib_pivotal.app.comparison_plan import Choices, Plan, make_plan
from lib_pivotal.app.session import Busy, Session
from lib_pivotal.core.atomic_file import free_name
from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import BundleError, PivotalError
from lib_pivotal.core.png_file import write_png
from lib_pivotal.core.prompt_names.lora_tags import PART_TITLES
from lib_pivotal.core.train.out_of_memory import explained

if TYPE_CHECKING:
    from lib_pivotal.core.ports import Sample

__all__ = ["IDLE_COMPARISON", "Comparison", "comparison_for"]

logger = logging.getLogger("pivotal.comparison")

IDLE_COMPARISON: dict[str, Any] = {
    "state": "idle",
    "is_active": False,
    "done": 0,
    "total": 0,
    "task_id": None,
    "bundle": "",
    "parts": [],
    "columns": [],
    "prompts": [],
    "checkpoints": [],
    "left_out": 0,
    "path": None,
    "cells": [],
    "message": "",
    "hint": "",
}
"""The status before the first comparison."""


def _describe(path: Path) -> dict[str, Any]:
    """Contents of a file; imported late so that the application starts without torch."""
    from lib_pivotal.core.bundle.inspection import describe

    return describe(path)


class Comparison:
    """Makes comparisons in a background thread and knows the state of the latest one; only one at a time.

    Args:
        session: the training session, whose host makes the images.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._lock = threading.Lock()
        self._values = dict(IDLE_COMPARISON)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def checkpoints(self) -> list[str]:
        """Titles of the checkpoints that can be chosen in addition to the selected one."""
        host = self.session.host.comparison()
        selected = host.selected_checkpoint()
        return [title for title in host.checkpoints() if title != selected]

    def start(self, choices: Choices) -> str:
        """Start a comparison in the background; while training has the model, it waits for its turn.

        Returns:
            The task id, ``task(…)``, under which the host shows the progress.

        Raises:
            Busy: another comparison is being made, or no bundle is chosen and the latest run has not ended.
            PivotalError: there is no such bundle, or it cannot be compared, see :func:`make_plan`.
        """
        self._refuse_a_second()
        path, folder, name, config = self._target(choices)
        plan = make_plan(choices, path, _describe(path), self.session.host.comparison(), config)
        task_id = f"task(pivotal-{secrets.token_hex(8)})"
        with self._lock:
            self._refuse_a_second()
            stop = self._stop = threading.Event()
            self._values = {
                **IDLE_COMPARISON,
                "state": "queued",
                "is_active": True,
                "total": len(plan.cells),
                "task_id": task_id,
                "bundle": plan.label,
                "parts": list(plan.parts),
                "columns": [PART_TITLES[part] for part in plan.parts],
                "prompts": list(plan.prompts),
                "checkpoints": list(plan.checkpoints),
                "left_out": plan.left_out,
            }
            arguments = (plan, task_id, folder / f"{name}.png", stop)
            self._thread = threading.Thread(target=self._work, args=arguments, name="pivotal-comparison", daemon=True)
        self._thread.start()
        return task_id

    def stop(self) -> bool:
        """End the comparison; what is finished is kept. False if there is none."""
        with self._lock:
            if not self._values["is_active"]:
                return False
            self._stop.set()
            task_id = self._values["task_id"]
            if self._values["state"] == "queued":
                # Its turn may come only in hours; its thread then ends without doing anything.
                self._values = {**self._values, "state": "stopped", "is_active": False}
        self.session.host.comparison().interrupt(task_id)
        return True

    def status(self) -> dict[str, Any]:
        """State of the latest comparison; keys as in :data:`IDLE_COMPARISON`, values serializable as JSON."""
        with self._lock:
            return {name: list(value) if isinstance(value, list) else value for name, value in self._values.items()}

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the latest comparison is over."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _refuse_a_second(self) -> None:
        if self._values["is_active"]:
            raise Busy("A comparison is already being made.", hint="Wait until it has ended, or stop it.")

    def _target(self, choices: Choices) -> tuple[Path, Path, str, TrainConfig | None]:
        """The bundle, the folder and the name of the result, and the settings of the run, if it is the latest one's."""
        host, status = self.session.host, self.session.status()
        if not choices.bundle and status["is_active"]:
            raise Busy("Training is running, so its bundle is not finished.", hint="Compare when it has ended.")
        latest = Path(status["bundle_path"]) if status["bundle_path"] else None
        path = find_bundle(host.lora_folder(), choices.bundle) if choices.bundle else latest
        if path is None:
            raise BundleError(
                "There is no bundle of a run to compare.", hint="Train one, or choose one in Bundle tools."
            )
        if path == latest:
            return path, Path(status["run_folder"]), f"compare-{status['step']:06d}", from_dict(status["config"])
        return path, host.comparison().output_folder(), f"compare-{path.stem}", None

    def _work(self, plan: Plan, task_id: str, out: Path, stop: threading.Event) -> None:
        """Body of the thread; it never raises."""
        samples: list[Sample] = []
        kept: dict[str, Any] = {}
        outcome: Mapping[str, Any]
        try:
            with self.session.host.exclusive(task_id):
                try:
                    if not stop.is_set():
                        self._make(plan, task_id, stop, samples)
                finally:
                    # Also after a stop or a failure.
                    if samples:
                        kept = self._keep(plan, samples, out)
            outcome = {"state": "done" if len(samples) == len(plan.cells) else "stopped"}
        except BaseException as error:
            logger.exception("The comparison failed")
            outcome = _failure(error)
        self._set(task_id, **{**kept, **outcome}, is_active=False)

    def _make(self, plan: Plan, task_id: str, stop: threading.Event, samples: list[Sample]) -> None:
        """Add the images in the order of the plan's cells; ends early when stopped."""
        requests = [(checkpoint, plan.request(part, prompt)) for checkpoint, part, prompt in plan.cells]
        self._set(task_id, state="running")
        images = self.session.host.comparison().images(requests, stop.is_set)
        with contextlib.closing(images):
            for sample in images:
                samples.append(sample)
                self._set(task_id, done=len(samples))

    def _keep(self, plan: Plan, samples: Sequence[Sample], out: Path) -> dict[str, Any]:
        """Draw and save the image, without empty columns and rows; the text of every cell is in the file."""
        made = dict(zip(plan.cells, samples, strict=False))
        parts = [part for part in plan.parts if any(part == cell[1] for cell in made)]
        rows = [row for row in plan.rows if any(row == (cell[0], cell[2]) for cell in made)]
        empty = samples[0].image.copy()
        empty.paste("white", (0, 0, *empty.size))
        images = [
            made[checkpoint, part, prompt].image if (checkpoint, part, prompt) in made else empty
            for checkpoint, prompt in rows
            for part in parts
        ]
        show_checkpoint = len(plan.checkpoints) > 1
        titles = [[prompt, checkpoint] if show_checkpoint else [prompt] for checkpoint, prompt in rows]
        image = self.session.host.comparison().draw(images, [PART_TITLES[part] for part in parts], titles)
        cells = [
            {"checkpoint": checkpoint, "part": part, "prompt": prompt, "infotext": sample.infotext}
            for (checkpoint, part, prompt), sample in made.items()
        ]
        out.parent.mkdir(parents=True, exist_ok=True)
        path = free_name(out)
        write_png(path, image, {"parameters": samples[0].infotext, "pivotal_comparison": json.dumps(cells)})
        return {"path": str(path), "cells": cells}

    def _set(self, task_id: str, **values: Any) -> None:
        """Change the status, unless this comparison was stopped while it waited."""
        with self._lock:
            if self._values["task_id"] == task_id and self._values["is_active"]:
                self._values = {**self._values, **values}


def _failure(error: BaseException) -> Mapping[str, Any]:
    known = explained(error, "comparing")
    if isinstance(known, PivotalError):
        return {"state": "failed", "message": known.message, "hint": known.hint}
    text = f"The comparison failed: {type(error).__name__}: {error}"
    return {"state": "failed", "message": text, "hint": "See the webui's console for details."}


_current: list[Comparison] = []
_current_lock = threading.Lock()


def comparison_for(session: Session) -> Comparison:
    """The comparisons of the process's session; like the session, they outlive Reload UI."""
    with _current_lock:
        if not _current or _current[0].session is not session:
            _current[:] = [Comparison(session)]
        return _current[0]
