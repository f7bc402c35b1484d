"""Fuses bundles on the webui's own model, in the background, and keeps the state of the latest fusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lib_pivotal.app.background_job import BackgroundJob
from lib_pivotal.app.bundle_library import Destination, chosen_file, find_bundle
from lib_pivotal.app.per_session import PerSession
from lib_pivotal.app.request_body import read_body
from lib_pivotal.app.session import Session
from lib_pivotal.core.atomic_file import free_name
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, Interrupted, Problem
from lib_pivotal.core.events import Control, Preparing

if TYPE_CHECKING:
    from lib_pivotal.core.fuse.fusing import FuseResult
    from lib_pivotal.core.ports import DiffusionModel

__all__ = ["IDLE_FUSING", "FuseChoices", "Fusing", "fusing_for", "read_fuse_choices"]

IDLE_FUSING: dict[str, Any] = {
    "state": "idle",
    "is_active": False,
    "stage": "",
    "done": 0,
    "total": 0,
    "task_id": None,
    "bundles": [],
    "path": None,
    "report": [],
    "problems": [],
    "message": "",
    "hint": "",
}
"""The status before the first fusion."""
_MAX_RANK = 256
_MAX_NAME_LENGTH = 80
"""Characters of a name that is joined from those of the bundles."""


@dataclass(frozen=True)
class FuseChoices:
    """What the user chose.

    Attributes:
        bundles: as the bundle tools list them, at least two.
        target: where to write; an empty name joins those of the bundles.
        rank: of the new LoRA; 0 is the sum of the ranks.
        data_folder: training images of all bundles; empty uses samples.
    """

    bundles: tuple[str, ...]
    target: Destination = field(default_factory=Destination)
    rank: int = 0
    data_folder: str = ""


def read_fuse_choices(body: Any) -> FuseChoices:
    """The choices in the body of a request.

    Raises:
        ConfigError: lists everything that is wrong with it.
    """
    known = {"bundles": list, "name": str, "overwrite": bool, "rank": int, "data_folder": str}
    values = read_body(body, known, "bundles")
    names = values["bundles"]
    problems = []
    if not all(isinstance(name, str) for name in names) or len(set(map(str, names))) < max(len(names), 2):
        text = "It must name at least two bundles, each of them once."
        problems.append(Problem("bundles", "error", text, "Choose bundles in the list."))
    rank = values.get("rank", 0)
    if not 0 <= rank <= _MAX_RANK:
        problems.append(Problem("rank", "error", f"It must be from 0 to {_MAX_RANK}.", "0 is the sum of the ranks."))
    if problems:
        raise ConfigError(problems)
    target = Destination(values.get("name", ""), values.get("overwrite", False))
    return FuseChoices(tuple(names), target, rank, values.get("data_folder", "").strip())


class Fuser(Protocol):
    """Fuses bundles; tests pass their own."""

    def __call__(
        self,
        paths: Sequence[Path],
        model: DiffusionModel,
        out: Path,
        *,
        rank: int,
        data_folder: str,
        overwrite: bool,
        progress: Callable[[str, int, int], None],
        stopped: Callable[[], bool],
    ) -> FuseResult:
        """See :func:`lib_pivotal.core.fuse.fusing.fuse`."""
        ...


def _fuse(*arguments: Any, **options: Any) -> FuseResult:
    """Imported late so that the application starts without torch."""
    from lib_pivotal.core.fuse.fusing import fuse

    return fuse(*arguments, **options)


class Fusing:
    """Fuses bundles in a background thread; only one fusion at a time.

    Args:
        session: the training session, whose host lends the model.
        fuse: does the work.
    """

    def __init__(self, session: Session, fuse: Fuser = _fuse) -> None:
        self.session = session
        self._fuse = fuse
        busy = ("Bundles are already being fused.", "Wait until that has ended, or stop it.")
        self._job = BackgroundJob(IDLE_FUSING, title="Fusing", doing="fusing", busy=busy)

    def start(self, choices: FuseChoices) -> str:
        """Start in the background; while training has the model, it waits for its turn.

        Returns:
            The task id, ``task(…)``, under which the host shows the progress.

        Raises:
            Busy: another fusion is running.
            BundleError: a bundle does not exist, or the new file does.
            ConfigError: the model cannot be borrowed, or the name is not a file name.
        """
        self._job.refuse_a_second()
        folder = self.session.host.lora_folder()
        paths = [find_bundle(folder, name) for name in choices.bundles]
        out = _out(folder, choices.target, paths)
        config = TrainConfig(clip_skip=_clip_skip(paths))
        problems = [problem for problem in self.session.host.problems(config) if problem.is_error]
        if problems:
            raise ConfigError(problems)

        def work(task_id: str, control: Control) -> Mapping[str, Any]:
            return self._work(choices, paths, out, config, task_id, control)

        return self._job.begin(work, bundles=list(choices.bundles))

    def stop(self) -> bool:
        """End the fusion without a file. False if there is none."""
        return self._job.stop() is not None

    def status(self) -> dict[str, Any]:
        """State of the latest fusion; keys as in :data:`IDLE_FUSING`, values serializable as JSON."""
        return self._job.status()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the latest fusion is over."""
        self._job.join(timeout_s)

    def _work(
        self,
        choices: FuseChoices,
        paths: Sequence[Path],
        out: Path,
        config: TrainConfig,
        task_id: str,
        control: Control,
    ) -> Mapping[str, Any]:
        with self.session.host.exclusive(task_id) as sink:
            if control.stop_requested:
                return {"state": "stopped"}

            def progress(stage: str, done: int, total: int) -> None:
                self._job.change(task_id, stage=stage, done=done, total=total)
                sink.handle(Preparing(stage, done, total))

            self._job.change(task_id, state="running")
            try:
                with self.session.host.borrow(config, control) as borrowed:
                    made = self._fuse(
                        paths,
                        borrowed.model,
                        out,
                        rank=choices.rank,
                        data_folder=choices.data_folder,
                        overwrite=choices.target.overwrite,
                        progress=progress,
                        stopped=lambda: control.stop_requested,
                    )
            except Interrupted:
                return {"state": "stopped"}
            self.session.host.bundle_written(made.path)
        return {
            "state": "done",
            "path": str(made.path),
            "report": [item.as_dict() for item in made.report],
            "problems": [str(problem) for problem in made.problems],
        }


def _out(folder: Path, target: Destination, paths: Sequence[Path]) -> Path:
    """The file to write.

    Raises:
        BundleError: it exists and must not be replaced.
        ConfigError: it is not a file name.
    """
    if not target.name.strip():
        joined = "-".join(path.stem for path in paths)[:_MAX_NAME_LENGTH].rstrip(" .-_")
        return free_name(folder / f"{joined}.safetensors")
    from lib_pivotal.core.bundle.file import refuse_existing

    out = chosen_file(folder, target.name)
    refuse_existing([out], overwrite=target.overwrite)
    return out


def _clip_skip(paths: Sequence[Path]) -> int:
    """The clip skip that the bundles were trained with.

    Raises:
        BundleError: a file cannot be read, or they were trained with different ones.
    """
    from lib_pivotal.core.fuse.source import trained_clip_skip

    return trained_clip_skip(paths)


fusing_for = PerSession(Fusing)
"""The fusions of a session."""
