"""The log of a run, which never stands in the way of the run."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["logging_to"]

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextlib.contextmanager
def logging_to(path: Path, warn: Callable[[str], None], *, on_console: bool = True) -> Iterator[None]:
    """Write the ``pivotal`` loggers, from INFO up, into a file.

    Args:
        path: appended to.
        warn: takes a sentence at the end when the file is not complete, for example because the disk was full.
        on_console: whether they go on to the handlers of the program, too.

    Raises:
        OSError: the file cannot be opened.
    """
    logger = logging.getLogger("pivotal")
    handler = _RunLog(path)
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    logger.propagate = propagates and on_console
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates
        handler.close()
        if handler.failure is not None:
            reason = getattr(handler.failure, "strerror", None) or handler.failure
            with contextlib.suppress(Exception):
                warn(f"{path} is not complete ({reason}). Check free disk space and write permission.")


class _RunLog(logging.FileHandler):
    """A log file whose failures are remembered and not printed; the standard one prints a traceback for each."""

    def __init__(self, path: Path) -> None:
        # File names may hold what UTF-8 cannot.
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.failure: BaseException | None = None
        self.setLevel(logging.INFO)
        self.setFormatter(logging.Formatter(_FORMAT))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the standard library's)
        self.failure = self.failure or sys.exc_info()[1]

    def close(self) -> None:
        try:
            super().close()
        except (OSError, ValueError) as error:
            self.failure = self.failure or error
