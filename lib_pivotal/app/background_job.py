"""Work in a background thread whose state the page asks for; only one of a kind at a time."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

from lib_pivotal.app.session import Busy
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.core.events import Control
from lib_pivotal.core.printable import printable
from lib_pivotal.core.train.out_of_memory import explained

__all__ = ["BackgroundJob", "Work"]

logger = logging.getLogger("pivotal.jobs")

Work = Callable[[str, Control], Mapping[str, Any]]
"""Does the work of a task with this id until it is finished or asked to stop; returns changes of the status."""


class BackgroundJob:
    """Runs one piece of work after the other and knows the status of the latest one.

    Args:
        idle: the status before the first one, among others with ``state``, ``is_active``, ``task_id``, ``message`` and
            ``hint``.
        title: what it is, at the beginning of a sentence.
        doing: the same as a participle, for messages about memory.
        busy: why a second one cannot start, and what to do.
    """

    def __init__(self, idle: Mapping[str, Any], *, title: str, doing: str, busy: tuple[str, str]) -> None:
        self._idle = dict(idle)
        self._title = title
        self._doing = doing
        self._busy = busy
        self._lock = threading.Lock()
        self._values = dict(idle)
        self._control = Control()
        self._thread: threading.Thread | None = None

    def begin(self, work: Work, **values: Any) -> str:
        """Start work in the background.

        Args:
            work: see :data:`Work`.
            values: what the status says about it from the beginning.

        Returns:
            The task id, ``task(…)``, under which the host shows the progress.

        Raises:
            Busy: another one is running.
        """
        task_id = f"task(pivotal-{secrets.token_hex(8)})"
        with self._lock:
            self.refuse_a_second()
            control = self._control = Control()
            self._values = {**self._idle, "state": "queued", "is_active": True, "task_id": task_id, **values}
            name = f"pivotal-{self._doing}"
            self._thread = threading.Thread(target=self._run, args=(work, task_id, control), name=name, daemon=True)
        self._thread.start()
        return task_id

    def refuse_a_second(self) -> None:
        """Check that none is running.

        Raises:
            Busy: one is.
        """
        if self._values["is_active"]:
            message, hint = self._busy
            raise Busy(message, hint=hint)

    def stop(self) -> str | None:
        """Ask the running one to stop; returns its task id, or None if there is none."""
        with self._lock:
            if not self._values["is_active"]:
                return None
            self._control.stop()
            if self._values["state"] == "queued":
                # Its turn may come only in hours; its thread then ends without doing anything.
                self._values = {**self._values, "state": "stopped", "is_active": False}
            return str(self._values["task_id"])

    def status(self) -> dict[str, Any]:
        """Status of the latest one; its values are serializable as JSON."""
        with self._lock:
            return {name: list(value) if isinstance(value, list) else value for name, value in self._values.items()}

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the latest one is over."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def change(self, task_id: str, **values: Any) -> None:
        """Change the status, unless this one was stopped while it waited."""
        with self._lock:
            if self._values["task_id"] == task_id and self._values["is_active"]:
                self._values = {**self._values, **values}

    def _run(self, work: Work, task_id: str, control: Control) -> None:
        """Body of the thread; it never raises."""
        outcome: Mapping[str, Any]
        try:
            outcome = work(task_id, control)
        except BaseException as error:
            logger.exception("%s failed", self._title)
            outcome = self._failure(error)
        self.change(task_id, **outcome, is_active=False)

    def _failure(self, error: BaseException) -> Mapping[str, Any]:
        known = explained(error, self._doing)
        if isinstance(known, PivotalError):
            return {"state": "failed", "message": known.message, "hint": known.hint}
        text = printable(f"{self._title} failed: {type(error).__name__}: {error}")
        return {"state": "failed", "message": text, "hint": "See the webui's console for details."}
