"""Looking at the images of a data set and editing their captions."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lib_pivotal.app.caption_job import NO_JOB, CaptionJob, JobState
from lib_pivotal.app.image_look import ImageLook
from lib_pivotal.app.per_session import PerSession
from lib_pivotal.app.session import Session
from lib_pivotal.core.config.data_settings import DataSettings
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.caption_changes import CaptionChange, CaptionChanger, with_caption
from lib_pivotal.core.data.caption_edits import EditPlan, has_own_file, plan_descriptions, plan_edits
from lib_pivotal.core.data.caption_undo import CaptionHistory
from lib_pivotal.core.data.dataset_changes import changes_between
from lib_pivotal.core.data.image_cards import MARKS, ImageSearch
from lib_pivotal.core.data.thumbnail import Thumbnails
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.train.setting_checks import check_settings

__all__ = ["MARKS", "CaptionChange", "ImageBrowser", "ImageSearch", "browser_for"]

_MAX_LOOKS = 4
"""Data sets that are remembered at a time, for several browser windows."""
_EXAMPLES = 8


class ImageBrowser:
    """What the tab shows of a data set; all answers are values for JSON.

    Every method that takes the id of a look raises :class:`PivotalError` if it is no longer known.

    Args:
        session: knows the webui.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._looks: dict[str, ImageLook] = {}
        self._thumbnails: dict[str, Thumbnails] = {}
        self._histories: dict[Path, CaptionHistory] = {}
        self._job: CaptionJob | None = None
        self._lock = threading.Lock()

    def look(self, config: TrainConfig, parse_problems: Sequence[Problem] = ()) -> dict[str, Any]:
        """Read a data set.

        Args:
            config: the settings.
            parse_problems: values that could not be read; only those about the data set matter here.

        Returns:
            ``look``: id for the other methods, and ``problems``: a list of :class:`Problem`.

        Raises:
            ConfigError: settings of the data set are invalid, or there are no images.
        """
        found = [*parse_problems, *check_settings(config)]
        problems = [problem for problem in found if problem.is_error and _is_about_data(problem.field)]
        if problems:
            raise ConfigError(problems)
        look = ImageLook(config, self._session.host, self._thumbnails_of(config))
        if not look.report.images:
            raise ConfigError([problem for problem in look.problems() if problem.is_error])
        with self._lock:
            self._looks[look.id] = look
            for old in list(self._looks)[:-_MAX_LOOKS]:
                del self._looks[old]
        return {"look": look.id, "problems": look.problems()}

    def rescan(self, look: str) -> dict[str, Any]:
        """Read the data set again; returns what has changed since, see ``core.data.dataset_changes``."""
        known = self._look(look)
        known.read()
        changes = changes_between(known.seen, known.report)
        known.seen = known.report
        return asdict(changes)

    def page(self, look: str, search: ImageSearch, number: int) -> dict[str, Any]:
        """A page of images, see :meth:`ImageLook.page`."""
        return self._look(look).page(search, number)

    def details(self, look: str, image: str) -> dict[str, Any]:
        """Everything about an image, see :meth:`ImageLook.details`."""
        return self._look(look).details(image)

    def preview(
        self, look: str, search: ImageSearch, change: CaptionChange, *, title: str, writes_files: bool
    ) -> dict[str, Any]:
        """What a change of the captions of the found images would do; nothing is written.

        Args:
            look: id of the look.
            search: which images.
            change: what to do.
            title: what is done, for the list of edits that can be undone.
            writes_files: whether captions from elsewhere are written to files next to their images.

        Returns:
            ``plan``: its id, or empty if nothing changes; ``title``; numbers ``files``, ``new`` and ``unchanged``;
            ``emptied``: images whose captions lose everything; ``recoded``: file → its encoding, which becomes UTF-8;
            ``shared``: further images whose captions change with them; ``skipped``: reason → images; ``elsewhere``:
            images; ``examples``: ``image``, ``before`` and ``after``.

        Raises:
            ConfigError: the change is not possible.
        """
        known = self._look(look)
        changer = CaptionChanger(known.config, change)
        chosen = known.found(search)
        plan = plan_edits(
            chosen, known.report.images, changer.changed, known.config, title=title, writes_files=writes_files
        )
        known.plan = (secrets.token_hex(8), plan) if plan.files else None
        return _shown_plan(plan, known.plan[0] if known.plan else "", {image.shown for image in chosen})

    def apply(self, look: str, plan: str) -> dict[str, Any]:
        """Write what :meth:`preview` has shown.

        Returns:
            ``files``: number of files written, and ``entry``: id for :meth:`undo`.

        Raises:
            DatasetError: a file has changed since, or cannot be written; nothing has been changed.
            PivotalError: there is no such plan any more.
        """
        known = self._look(look)
        if known.plan is None or known.plan[0] != plan:
            raise PivotalError("These edits are no longer current.", hint="Preview them again.")
        return self._apply(known, known.plan[1])

    def save_caption(self, look: str, image: str, caption: str, *, title: str) -> dict[str, Any]:
        """Write the caption of one image; returns what :meth:`apply` does.

        Raises:
            PivotalError: it cannot be written; nothing has been changed.
        """
        known = self._look(look)
        plan = plan_edits(
            [known.image(image)],
            known.report.images,
            lambda text: with_caption(text, caption),
            known.config,
            title=title,
            writes_files=True,
        )
        for reason in plan.skipped:
            raise PivotalError(f"The caption of {image} was not saved.", hint=reason)
        return self._apply(known, plan)

    def captioners(self) -> list[tuple[str, str]]:
        """Programs of the webui that describe images, each with the size of its download."""
        return [(item.name, item.download) for item in self._session.host.captioners()]

    def write_captions(self, look: str, search: ImageSearch, program: str, *, appends: bool, title: str) -> None:
        """Describe the found images in the background, see :meth:`job`.

        Args:
            look: id of the look.
            search: which images.
            program: one of :meth:`captioners`.
            appends: whether images with captions get further tags at the end; otherwise they are left out.
            title: what is done, for the list of edits that can be undone.

        Raises:
            PivotalError: there is no such program, nothing to do, or a job is still at work.
        """
        known = self._look(look)
        captioner = next((item for item in self._session.host.captioners() if item.name == program), None)
        if captioner is None:
            raise PivotalError("This program is not available.", hint="Select another one.")
        images = [
            image
            for image in known.found(search)
            if not image.flaws and (not image.source or (appends and has_own_file(image)))
        ]
        if not images:
            raise PivotalError("No image found by the filter needs a caption.", hint="Change the filter.")

        def save(texts: dict[str, str]) -> EditPlan:
            plan = plan_descriptions(texts, known.report.images, known.config, title=title)
            self._apply(known, plan)
            return plan

        with self._lock:
            if self._job is not None and self._job.state.is_active:
                raise PivotalError("Captions are already being written.", hint="Wait until that has ended, or stop it.")
            job = CaptionJob(self._session.host, captioner, images, known.config, save)
            job.start()
            self._job = job

    def stop_captions(self) -> None:
        """Stop describing images; those that have been described get their captions."""
        if self._job is not None:
            self._job.stop()

    def job(self) -> JobState:
        """How far the latest job of :meth:`write_captions` is."""
        return self._job.state if self._job is not None else NO_JOB

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the latest job is over."""
        if self._job is not None:
            self._job.join(timeout_s)

    def entries(self) -> list[dict[str, Any]]:
        """Edits that can be undone, newest first, see ``core.data.caption_undo.UndoEntry``."""
        return [asdict(entry) for entry in self._history().entries()]

    def undo(self, look: str, entry: str) -> dict[str, Any]:
        """Undo an edit.

        Returns:
            ``restored``: number of files, and ``refused``: files that have changed since and stay.

        Raises:
            DatasetError: it can no longer be undone, or a file cannot be written.
        """
        known = self._look(look)
        undone = self._history().undo(entry)
        known.read_after_edit(undone.restored)
        return {"restored": len(undone.restored), "refused": [str(path) for path in undone.refused]}

    def _apply(self, look: ImageLook, plan: EditPlan) -> dict[str, Any]:
        entry = self._history().apply(plan)
        look.read_after_edit([file.path for file in plan.files])
        return {"files": len(plan.files), "entry": entry}

    def _look(self, look: str) -> ImageLook:
        known = self._looks.get(look)
        if known is None:
            raise PivotalError("The images have not been read yet.", hint="Click Look at the images.")
        return known

    def _history(self) -> CaptionHistory:
        folder = self._session.host.data_root() / "caption-undo"
        return self._histories.setdefault(folder, CaptionHistory(folder))

    def _thumbnails_of(self, config: TrainConfig) -> Thumbnails:
        cache = self._session.host.data_root() / "cache"
        return self._thumbnails.setdefault(config.background, Thumbnails(cache, config.background))


browser_for = PerSession(ImageBrowser)
"""The image browser of a session."""


def _is_about_data(field: str) -> bool:
    return field.startswith("subsets") or field in {item.name for item in fields(DataSettings)}


def _shown_plan(plan: EditPlan, plan_id: str, chosen: set[str]) -> dict[str, Any]:
    step = max(1, len(plan.files) // _EXAMPLES)
    return {
        "plan": plan_id,
        "title": plan.title,
        "files": len(plan.files),
        "new": sum(file.before is None for file in plan.files),
        "unchanged": plan.unchanged,
        "emptied": [name for file in plan.files if not file.new for name in file.images],
        "recoded": {file.path.name: file.encoding for file in plan.files if file.encoding},
        "shared": [name for file in plan.files for name in file.images if name not in chosen],
        "skipped": {reason: list(names) for reason, names in plan.skipped.items()},
        "elsewhere": list(plan.elsewhere),
        "examples": [
            {"image": file.images[0], "before": file.old, "after": file.new} for file in plan.files[::step][:_EXAMPLES]
        ],
    }
