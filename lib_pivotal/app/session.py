"""The training session of the process: starts, stops and reports the current run; shared by tab and API."""

from __future__ import annotations

import copy
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib_pivotal.app.own_presets import PresetLibrary
from lib_pivotal.app.ports import AppHost
from lib_pivotal.app.resuming import check_resume
from lib_pivotal.app.run_queue import Busy, RunQueue
from lib_pivotal.app.runs import load_last, save_last
from lib_pivotal.app.status import IDLE, RunStatus
from lib_pivotal.app.training_job import Engine, TrainingJob, run_engine
from lib_pivotal.core.bundle.negative_names import check_trained_names
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.events import Control, Warned
from lib_pivotal.core.train.checks import Checked, check
from lib_pivotal.core.train.output_check import SMALLEST, VALUES_PER_RANK
from lib_pivotal.core.train.run_folder import Folders, make_run_folder
from lib_pivotal.core.train.setting_checks import with_parse_problems

__all__ = ["Busy", "Session", "session_for"]

logger = logging.getLogger("pivotal.session")

_CHANGED = "The images or captions have changed since this run was added to the queue; it uses them as they are now."


class Session:
    """Starts runs in a background thread and knows the state of the latest run.

    Args:
        host: the webui; may be replaced by a new object for the same webui while no run is active.
        engine: does the training; tests pass their own.
    """

    def __init__(self, host: AppHost, engine: Engine = run_engine) -> None:
        self.host = host
        self._engine = engine
        self._lock = threading.Lock()
        self._run: RunStatus | None = None
        self._control = Control()
        self._thread: threading.Thread | None = None
        self._is_starting = False
        self._reading = ""
        """How many images have been read; empty while none are being read."""
        self.queue = RunQueue(self)
        """Runs that start one after the other."""
        self.presets = PresetLibrary(lambda: self.host.data_root())  # noqa: PLW0108  (the host may be replaced)
        """The built-in presets and the user's own."""

    @property
    def is_active(self) -> bool:
        """Whether a run is queued or running."""
        return self._run is not None and self._run.is_active

    @property
    def active_run(self) -> RunStatus | None:
        """The run that is queued or running."""
        run = self._run
        return run if run is not None and run.is_active else None

    @property
    def active_folder(self) -> Path | None:
        """The folder of the run that is queued or running."""
        run = self.active_run
        return run.run_folder if run is not None else None

    def check(self, config: TrainConfig, parse_problems: Sequence[Problem] = ()) -> list[Problem]:
        """All problems, errors and warnings, of these settings on this host.

        Args:
            config: the settings.
            parse_problems: values that could not be read, see ``core.config.io.read_dict``.
        """
        return self.checked(config, parse_problems).problems

    def name_problems(self, config: TrainConfig) -> list[Problem]:
        """The problems of the names alone, with each other and with installed embeddings; quick, for every keystroke.

        Args:
            config: the settings.
        """
        found = check_trained_names(config.concepts, taken=self.host.taken_names(), tokenizer=self.host.tokenizer())
        # Whoever fills in a row may come to the name last.
        unnamed = {f"concepts[{row}].name" for row, concept in enumerate(config.concepts) if not concept.name.strip()}
        return [problem for problem in found if problem.field not in unnamed]

    def checked(
        self,
        config: TrainConfig,
        parse_problems: Sequence[Problem] = (),
        *,
        keeps_images: bool = False,
        resume: Path | None = None,
    ) -> Checked:
        """The problems of these settings together with what else the check finds out, such as the concept table.

        Args:
            config: the settings.
            parse_problems: as in :meth:`check`.
            keeps_images: keep decoded images, because training follows.
            resume: folder of a run that is to continue; None for a new run.
        """
        host = self.host
        family = host.family(config)
        resumed, obstacles = check_resume(resume, config) if resume is not None else (None, [])
        try:
            checked = check(
                config,
                bundles=host.lora_folder(),
                taken_names=host.taken_names(),
                tokenizer=host.tokenizer(),
                run_root=host.data_root(),
                per_rank=VALUES_PER_RANK.get(family, SMALLEST),
                keeps_images=keeps_images,
                family=family,
                cache=host.data_root() / "cache",
                progress=self._show_reading,
                resumed=resumed,
                memory=host.device_memory(config),
            )
        finally:
            self._reading = ""
        found = checked.problems
        if resume is not None:
            # A resumed run overwrites its own bundle.
            found = obstacles + [problem for problem in found if problem.field != "output_name"]
        return replace(checked, problems=with_parse_problems(parse_problems, found + host.problems(config)))

    def _show_reading(self, done: int, total: int) -> None:
        self._reading = f"reading images: {done} of {total}"

    def start(
        self,
        config: TrainConfig,
        parse_problems: Sequence[Problem] = (),
        *,
        resume: Path | None = None,
        digest: str = "",
    ) -> str:
        """Check, then start a run in the background.

        Args:
            config: the settings.
            parse_problems: as in :meth:`check`.
            resume: folder of a run that is to continue from its newest state; None starts a new run.
            digest: what ``DatasetReport.digest`` was when the run was planned; if it has changed, the run warns.

        Returns:
            The task id, ``task(…)``, under which the host shows the progress.

        Raises:
            Busy: training is already running.
            ConfigError: with all problems, if at least one is an error.
            PivotalError: the run folder cannot be created.
        """
        self._refuse_when_busy()
        checked = self.checked(config, parse_problems, keeps_images=True, resume=resume)
        if checked.has_errors:
            raise ConfigError(checked.problems)
        task_id = f"task(pivotal-{secrets.token_hex(8)})"
        with self._lock:
            self._refuse_when_busy()
            self._is_starting = True
        try:
            # Outside the lock: a disk that hangs must not block status requests.
            host = self.host
            folders = _make_folders(host, config, resume)
            run = RunStatus(config, task_id, folders.run)
            if digest and digest != checked.dataset.digest():
                run.handle(Warned(_CHANGED))
            job = TrainingJob(host, self._engine, run, Control(), folders, checked, resume)
            with self._lock:
                self._begin(job)
        finally:
            self._is_starting = False
        return task_id

    def _begin(self, job: TrainingJob) -> None:
        thread = threading.Thread(target=self._work, args=(job,), name="pivotal-training", daemon=True)
        self._run, self._control, self._thread = job.run, job.control, thread
        try:
            thread.start()
        except Exception as error:
            # The system allows no more threads; no thread will ever finish this run.
            self._thread = None
            failure = PivotalError(f"The training cannot be started: {error}.", hint="Restart the webui.")
            job.run.fail(failure)
            raise failure from error

    def _work(self, job: TrainingJob) -> None:
        job.work()
        self.queue.run_ended(job.run.snapshot())

    def stop(self, *, discard: bool = False) -> bool:
        """Stop the run after the current step; progress is kept unless ``discard``.

        Returns:
            Whether there was a run to stop.
        """
        with self._lock:
            if self._run is None or not self._run.is_active:
                return False
            self._run.request_stop()
            self._control.stop(discard=discard)
            return True

    def save_now(self) -> bool:
        """Save a bundle and a state after the current step; False if no run is active."""
        return self._request(Control.save_now)

    def sample_now(self) -> bool:
        """Make the preview images after the current step; False if no run is active."""
        return self._request(Control.sample_now)

    def status(self) -> dict[str, Any]:
        """State of the latest run; keys as in ``app.status.IDLE``, values serializable as JSON."""
        run = self._run
        status = copy.deepcopy(IDLE) if run is None else run.snapshot()
        # While a check before a run reads the images, there is no run yet.
        return status if status["is_active"] or not self._reading else {**status, "stage": self._reading}

    def last_config(self) -> TrainConfig | None:
        """Settings of the last run, even if an earlier process started it; None before the first run.

        Raises:
            ConfigError: the file cannot be read or parsed.
        """
        try:
            return load_last(self.host.data_root())
        except OSError as error:
            problem = Problem("last.json", "error", f"It cannot be read: {error}.", "Start a run to replace it.")
            raise ConfigError([problem]) from error

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the latest run is over."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _request(self, request: Callable[[Control], None]) -> bool:
        with self._lock:
            if not self.is_active:
                return False
            request(self._control)
            return True

    def _refuse_when_busy(self) -> None:
        if self._is_starting or self.is_active:
            raise Busy("Training is already running.", hint="Wait until it has ended, or stop it.")


def _make_folders(host: AppHost, config: TrainConfig, resume: Path | None) -> Folders:
    root = host.data_root()
    try:
        save_last(root, config)
        return Folders(resume or make_run_folder(root, config.output_name), host.lora_folder(), root / "cache")
    except OSError as error:
        message = f"The folder {root} cannot be written to: {error.strerror or error}."
        raise PivotalError(message, hint="Choose another one in Settings, Pivotal Tuning.") from error


_current: list[Session] = []
"""The session of this process. It is kept in this package because the webui's Reload UI reloads only scripts."""
_current_lock = threading.Lock()


def session_for(host: AppHost) -> Session:
    """The only session of this process, created on the first call."""
    with _current_lock:
        if not _current:
            _current.append(Session(host))
        session = _current[0]
        if not session.is_active:
            session.host = host
        return session
