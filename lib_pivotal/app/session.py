"""The one training run of a process: start, stop, look at it; tab and API share it."""

from __future__ import annotations

import copy
import logging
import secrets
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lib_pivotal.app.ports import AppHost
from lib_pivotal.app.runs import load_last, save_last
from lib_pivotal.app.status import IDLE, RunStatus
from lib_pivotal.app.training_job import Engine, TrainingJob, run_engine
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.events import Control
from lib_pivotal.core.train.checks import Checked, check, with_parse_problems
from lib_pivotal.core.train.output_check import SMALLEST
from lib_pivotal.core.train.run_folder import Folders, make_run_folder

__all__ = ["Busy", "Session", "session_for"]

logger = logging.getLogger("pivotal.session")


class Busy(PivotalError):
    """A run is on, and there is only one at a time."""


class Session:
    """Starts runs in a thread of their own and knows the state of the latest.

    Args:
        host: the webui; may be exchanged for a new object of the same webui while no run is on.
        engine: trains; tests give their own.
    """

    def __init__(self, host: AppHost, engine: Engine = run_engine) -> None:
        self.host = host
        self._engine = engine
        self._lock = threading.Lock()
        self._run: RunStatus | None = None
        self._control = Control()
        self._thread: threading.Thread | None = None
        self._is_starting = False

    @property
    def is_active(self) -> bool:
        """Whether a run is queued or on."""
        return self._run is not None and self._run.is_active

    def check(self, config: TrainConfig, parse_problems: Sequence[Problem] = ()) -> list[Problem]:
        """All problems of these settings on this host, errors and warnings.

        Args:
            config: the settings.
            parse_problems: what could not be read of them, see ``core.config.io.read_dict``.
        """
        return self._checked(config, parse_problems).problems

    def _checked(
        self, config: TrainConfig, parse_problems: Sequence[Problem], *, keeps_images: bool = False
    ) -> Checked:
        host = self.host
        checked = check(
            config,
            bundles=host.lora_folder(),
            taken_names=host.taken_names(),
            tokenizer=host.tokenizer(),
            run_root=host.data_root(),
            per_rank=SMALLEST,
            keeps_images=keeps_images,
        )
        return replace(checked, problems=with_parse_problems(parse_problems, checked.problems + host.problems(config)))

    def start(self, config: TrainConfig, parse_problems: Sequence[Problem] = ()) -> str:
        """Check, then start a run in the background.

        Args:
            config: the settings.
            parse_problems: as in :meth:`check`.

        Returns:
            The task id, ``task(…)``, under which the host shows its progress.

        Raises:
            Busy: a run is on.
            ConfigError: with every problem, when one of them prevents the start.
            PivotalError: the run folder cannot be made.
        """
        self._refuse_when_busy()
        checked = self._checked(config, parse_problems, keeps_images=True)
        if checked.has_errors:
            raise ConfigError(checked.problems)
        task_id = f"task(pivotal-{secrets.token_hex(8)})"
        with self._lock:
            self._refuse_when_busy()
            self._is_starting = True
        try:
            # Outside the lock: a disk that hangs must not keep others from asking for the status.
            host = self.host
            folders = _make_folders(host, config)
            run = RunStatus(config, task_id, folders.run)
            job = TrainingJob(host, self._engine, run, Control(), folders, checked)
            with self._lock:
                self._begin(job)
        finally:
            self._is_starting = False
        return task_id

    def _begin(self, job: TrainingJob) -> None:
        thread = threading.Thread(target=job.work, name="pivotal-training", daemon=True)
        self._run, self._control, self._thread = job.run, job.control, thread
        try:
            thread.start()
        except Exception as error:
            # The system allows no more threads, so nobody else would end this run.
            self._thread = None
            failure = PivotalError(f"The training cannot be started: {error}.", hint="Restart the webui.")
            job.run.fail(failure)
            raise failure from error

    def stop(self, *, discard: bool = False) -> bool:
        """End the run after the step it is in; what is trained is kept unless ``discard``.

        Returns:
            Whether there was a run to end.
        """
        with self._lock:
            if self._run is None or not self._run.is_active:
                return False
            self._run.ask_stop()
            self._control.stop(discard=discard)
            return True

    def save_now(self) -> bool:
        """Write a bundle and a state after the step the run is in; False when no run is on."""
        return self._ask(self._control.save_now)

    def sample_now(self) -> bool:
        """Make the preview images after the step the run is in; False when no run is on."""
        return self._ask(self._control.sample_now)

    def status(self) -> dict[str, Any]:
        """State of the latest run; keys as in ``app.status.IDLE``, values JSON-able."""
        run = self._run
        return copy.deepcopy(IDLE) if run is None else run.snapshot()

    def last_config(self) -> TrainConfig | None:
        """Settings of the run started last, also by an earlier process; None before the first.

        Raises:
            ConfigError: the file cannot be understood.
        """
        try:
            return load_last(self.host.data_root())
        except OSError as error:
            problem = Problem("last.json", "error", f"It cannot be read: {error}.", "Start a run to write it anew.")
            raise ConfigError([problem]) from error

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the latest run is over."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _ask(self, request: Any) -> bool:
        if not self.is_active:
            return False
        request()
        return True

    def _refuse_when_busy(self) -> None:
        if self._is_starting or self.is_active:
            raise Busy("Training is already running.", hint="Wait until it has ended, or stop it.")


def _make_folders(host: AppHost, config: TrainConfig) -> Folders:
    root = host.data_root()
    try:
        save_last(root, config)
        return Folders(make_run_folder(root, config.output_name), host.lora_folder(), root / "cache")
    except OSError as error:
        message = f"The folder {root} cannot be written: {error.strerror or error}."
        raise PivotalError(message, hint="Choose another one in Settings, Pivotal Tuning.") from error


_current: list[Session] = []
"""The session of this process; packages outlive the webui's Reload UI, scripts do not."""
_current_lock = threading.Lock()


def session_for(host: AppHost) -> Session:
    """The one session of this process, made at the first call."""
    with _current_lock:
        if not _current:
            _current.append(Session(host))
        session = _current[0]
        if not session.is_active:
            session.host = host
        return session
