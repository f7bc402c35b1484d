"""Runs that start one after the other, each with the settings it was added with."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from lib_pivotal.app.queue_file import QueueItem, load_queue, save_queue
from lib_pivotal.core.config.io import read_dict, to_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.train.checks import Checked

__all__ = ["Busy", "RunQueue", "Starter"]

logger = logging.getLogger("pivotal.queue")

_NAME = "queue.json"
_MAX_WAITING = 200
_MAX_ENDED = 50
"""How many ended runs stay in the list."""


class Busy(PivotalError):
    """Training is already running; only one run at a time is possible."""


class Starter(Protocol):
    """What the queue needs from the session."""

    host: Any

    @property
    def is_active(self) -> bool:
        """Whether a run is queued or running."""
        ...

    def checked(self, config: TrainConfig, parse_problems: Sequence[Problem] = ..., *, resume: Path | None) -> Checked:
        """Everything that a check finds out."""
        ...

    def start(
        self, config: TrainConfig, parse_problems: Sequence[Problem] = ..., *, resume: Path | None, digest: str
    ) -> str:
        """Start a run; returns its task id."""
        ...

    def stop(self, *, discard: bool = False) -> bool:
        """Stop the run."""
        ...

    def status(self) -> dict[str, Any]:
        """State of the latest run."""
        ...


class RunQueue:
    """The waiting runs, kept in a file in the data folder; every method may be called from any thread.

    After a restart of the webui nothing starts by itself.

    Args:
        session: starts the runs.
    """

    def __init__(self, session: Starter) -> None:
        self._session = session
        self._lock = threading.RLock()
        self._starting = threading.RLock()
        """Held while a run starts, so that its end is noted only after its start."""
        self._items: list[QueueItem] | None = None
        self._is_going = False
        self._stop_asked: bool | None = None
        """Whether to stop the run that is being checked, and whether to discard it; None if it is to start."""
        self._problem = ""

    @property
    def is_on(self) -> bool:
        """Whether a run of the queue is on, is being checked or will follow."""
        # Without the lock, which is held while the list is written: a disk that hangs must not block the page's polls.
        items = self.items() if self._items is None else self._items
        return self._is_going or any(item.state == "running" for item in items)

    def add(
        self, config: TrainConfig, parse_problems: Sequence[Problem] = (), *, resume: Path | None = None
    ) -> QueueItem:
        """Check the settings and add a run at the end; it starts by itself only if the queue is going or a run is on.

        Args:
            config: its settings, of which the queue keeps a copy.
            parse_problems: values that could not be read.
            resume: folder of a run that is to continue; None for a new run.

        Raises:
            ConfigError: with all problems, if at least one is an error.
        """
        checked = self._session.checked(config, parse_problems, resume=resume)
        item = QueueItem(
            secrets.token_hex(6), to_dict(config), digest=checked.dataset.digest(), resume=str(resume or "")
        )
        with self._lock:
            items = self._load()
            problems = [*checked.problems, *self._clashes(item, items)]
            if any(problem.is_error for problem in problems):
                raise ConfigError(problems)
            self._store([*items, item])
            # Whoever adds a run while another is on wants it to follow.
            self._is_going = self._is_going or self._session.is_active
        return item

    def items(self) -> list[QueueItem]:
        """All runs, in the order in which they started or will start."""
        with self._lock:
            return list(self._load())

    def as_dict(self) -> dict[str, Any]:
        """The queue as plain values: ``is_going``, ``problem`` and ``items``."""
        with self._lock:
            items = [item.as_dict() for item in self._load()]
            return {"is_going": self._is_going, "problem": self._problem, "items": items}

    def move(self, item_id: str, by: int) -> None:
        """Move a waiting run.

        Args:
            item_id: of the run.
            by: places toward the end; negative toward the start. It stays among the waiting runs.

        Raises:
            ConfigError: it is not waiting.
        """
        with self._lock:
            items = self._load()
            item = self._waiting(item_id)
            waiting = [other for other in items if other.state == "waiting"]
            place = waiting.index(item)
            waiting.insert(max(0, min(len(waiting) - 1, place + by)), waiting.pop(place))
            following = iter(waiting)
            self._store([next(following) if other.state == "waiting" else other for other in items])

    def remove(self, item_id: str) -> None:
        """Remove a run from the list; its files stay.

        Raises:
            ConfigError: there is no such run, or it is running.
        """
        with self._lock:
            items = self._load()
            found = [item for item in items if item.id == item_id]
            if not found:
                raise _unknown(item_id)
            if found[0].state == "running":
                raise ConfigError([Problem("id", "error", "This run is in progress.", "Stop it first.")])
            self._store([item for item in items if item.id != item_id])

    def start(self) -> bool:
        """Let the queue go: start the first waiting run now, or after the run that is on.

        Returns:
            Whether any run is waiting.
        """
        with self._lock:
            has_waiting = any(item.state == "waiting" for item in self._load())
            self._is_going = has_waiting
            # The last word counts.
            self._stop_asked = None
        if has_waiting and not self._session.is_active:
            self._start_next()
        return has_waiting

    def stop_all(self, *, discard: bool = False) -> bool:
        """Stop the run that is on, and start no further one; the others keep waiting.

        Returns:
            Whether there was anything to stop.
        """
        with self._lock:
            was_going, self._is_going = self._is_going, False
            # A run that is still being checked cannot be stopped yet.
            self._stop_asked = discard
        return self._session.stop(discard=discard) or was_going

    def run_ended(self, status: Mapping[str, Any]) -> None:
        """Note how a run ended, and start the next one; never raises.

        Args:
            status: of the run, see ``app.status``.
        """
        try:
            with self._starting, self._lock:
                for item in self._load():
                    if item.state == "running" and item.run_folder == status["run_folder"]:
                        self._change(item, state=status["state"], message=status["message"])
            self._start_next()
        except Exception:
            logger.exception("The queue stopped")
            self._is_going = False

    def _start_next(self) -> None:
        """Start the first waiting run that can be started, unless the queue is stopped."""
        with self._starting:
            while (item := self._next()) is not None:
                try:
                    config, problems = read_dict(item.config)
                    resume = Path(item.resume) if item.resume else None
                    self._session.start(config, problems, resume=resume, digest=item.digest)
                except Busy:
                    # Somebody else was faster; this run follows that one.
                    self._change(item, state="waiting")
                    return
                except Exception as error:
                    logger.warning("the run %s of the queue cannot start", item.output_name, exc_info=True)
                    self._change(item, state="failed", message=str(error))
                else:
                    self._change(item, run_folder=self._session.status()["run_folder"] or "")
                    self._stop_if_asked()
                    return

    def _next(self) -> QueueItem | None:
        """Claim the first waiting run; None if the queue is stopped or empty."""
        with self._lock:
            waiting = [item for item in self._load() if item.state == "waiting"]
            self._is_going = self._is_going and bool(waiting)
            if not self._is_going:
                return None
            self._change(waiting[0], state="running")
            self._stop_asked = None
            return waiting[0]

    def _stop_if_asked(self) -> None:
        """Stop the run that has just started if that was asked for while it was being checked."""
        with self._lock:
            discard = self._stop_asked
        if discard is not None:
            self._session.stop(discard=discard)

    def _change(self, item: QueueItem, **values: str) -> None:
        with self._lock:
            self._store([replace(old, **values) if old.id == item.id else old for old in self._load()])

    def _waiting(self, item_id: str) -> QueueItem:
        for item in self._load():
            if item.id == item_id:
                if item.state != "waiting":
                    raise ConfigError([Problem("id", "error", "This run is not waiting.", "Choose a waiting run.")])
                return item
        raise _unknown(item_id)

    def _clashes(self, item: QueueItem, items: Sequence[QueueItem]) -> list[Problem]:
        """Errors if another run of the queue writes the same files."""
        open_items = [other for other in items if other.state in ("waiting", "running")]
        if len(open_items) >= _MAX_WAITING:
            text = f"{_MAX_WAITING} runs are waiting already."
            return [Problem("queue", "error", text, "Start the queue, or remove some of them.")]
        if item.resume:
            same = [other for other in open_items if other.resume == item.resume]
            text = "This run is in the queue already."
            return [Problem("queue", "error", text, "Remove it from the queue first.")] if same else []
        if item.config["if_exists"] == "number":
            return []
        taken = {other.output_name.casefold() for other in open_items if not other.resume}
        if self._session.is_active:
            taken.add(str((self._session.status()["config"] or {}).get("output_name", "")).casefold())
        if item.output_name.casefold() not in taken:
            return []
        text = f"Another run of the queue writes {item.output_name}."
        return [Problem("output_name", "error", text, 'Choose another name, or set "If the name exists" to number.')]

    def _load(self) -> list[QueueItem]:
        if self._items is None:
            self._items, self._problem = load_queue(self._path())
        return self._items

    def _store(self, items: Sequence[QueueItem]) -> None:
        ended = [item for item in items if item.state not in ("waiting", "running")]
        forgotten = {item.id for item in ended[: max(0, len(ended) - _MAX_ENDED)]}
        self._items = [item for item in items if item.id not in forgotten]
        self._problem = save_queue(self._path(), self._items)

    def _path(self) -> Path:
        return Path(self._session.host.data_root()) / _NAME


def _unknown(item_id: str) -> ConfigError:
    return ConfigError([Problem("id", "error", "There is no such run in the queue.", "Refresh the list.")])
