"""Compares the parts of a bundle: makes one image per part and prompt, in the background, and keeps the result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.app.background_job import BackgroundJob
from lib_pivotal.app.bundle_library import find_bundle
from lib_pivotal.app.comparison_plan import Choices, Plan, make_plan
from lib_pivotal.app.per_session import PerSession
from lib_pivotal.app.session import Busy, Session
from lib_pivotal.core.atomic_file import free_name
from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import BundleError
from lib_pivotal.core.events import Control
from lib_pivotal.core.png_file import write_png
from lib_pivotal.core.prompt_names.lora_tags import PART_TITLES

if TYPE_CHECKING:
    from lib_pivotal.core.ports import Sample

__all__ = ["IDLE_COMPARISON", "Comparison", "comparison_for"]

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
        busy = ("A comparison is already being made.", "Wait until it has ended, or stop it.")
        self._job = BackgroundJob(IDLE_COMPARISON, title="The comparison", doing="comparing", busy=busy)
        self._compared: tuple[Path, tuple[int, int] | None] | None = None
        """The bundle of the latest comparison, and what its file was then."""

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
        self._job.refuse_a_second()
        path, folder, name, config = self._target(choices)
        plan = make_plan(choices, path, _describe(path), self.session.host.comparison(), config)

        self._compared = path, _stamp(path)

        def work(task_id: str, control: Control) -> Mapping[str, Any]:
            return self._work(plan, task_id, folder / f"{name}.png", control)

        return self._job.begin(
            work,
            total=len(plan.cells),
            bundle=plan.label,
            parts=list(plan.parts),
            columns=[PART_TITLES[part] for part in plan.parts],
            prompts=list(plan.prompts),
            checkpoints=list(plan.checkpoints),
            left_out=plan.left_out,
        )

    def stop(self) -> bool:
        """End the comparison; what is finished is kept. False if there is none."""
        task_id = self._job.stop()
        if task_id is None:
            return False
        self.session.host.comparison().interrupt(task_id)
        return True

    def status(self) -> dict[str, Any]:
        """State of the latest comparison; keys as in :data:`IDLE_COMPARISON`, values serializable as JSON."""
        return self._job.status()

    def is_of(self, name: str) -> bool:
        """Whether the latest comparison is of this bundle as its file is now.

        Args:
            name: of the file, without its ending; a bundle can have another name in prompts.
        """
        if self._compared is None:
            return False
        path, stamp = self._compared
        return path.stem == name and _stamp(path) == stamp

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the latest comparison is over."""
        self._job.join(timeout_s)

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

    def _work(self, plan: Plan, task_id: str, out: Path, control: Control) -> Mapping[str, Any]:
        samples: list[Sample] = []
        with self.session.host.exclusive(task_id):
            try:
                if not control.stop_requested:
                    self._make(plan, task_id, control, samples)
            finally:
                # Also after a stop or a failure.
                if samples:
                    self._job.change(task_id, **self._keep(plan, samples, out))
        return {"state": "done" if len(samples) == len(plan.cells) else "stopped"}

    def _make(self, plan: Plan, task_id: str, control: Control, samples: list[Sample]) -> None:
        """Add the images in the order of the plan's cells; ends early when stopped."""
        requests = [(checkpoint, plan.request(part, prompt)) for checkpoint, part, prompt in plan.cells]
        self._job.change(task_id, state="running")
        images = self.session.host.comparison().images(requests, lambda: control.stop_requested)
        with contextlib.closing(images):
            for sample in images:
                samples.append(sample)
                self._job.change(task_id, done=len(samples))

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


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes when a file is written again; None if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


comparison_for = PerSession(Comparison)
"""The comparisons of a session."""
