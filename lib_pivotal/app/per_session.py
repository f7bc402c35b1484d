"""What exists once for the session of the process and, like the session, outlives the webui's Reload UI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from lib_pivotal.app.session import Session

__all__ = ["PerSession"]

Made = TypeVar("Made")


class PerSession(Generic[Made]):
    """Returns the same object for the same session.

    Args:
        make: makes it for a session; called again only for another session.
    """

    def __init__(self, make: Callable[[Session], Made]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._current: tuple[Session, Made] | None = None

    def __call__(self, session: Session) -> Made:
        """The object of a session."""
        with self._lock:
            if self._current is None or self._current[0] is not session:
                self._current = session, self._make(session)
            return self._current[1]
