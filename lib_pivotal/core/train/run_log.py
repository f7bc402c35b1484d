"""The log file of a run; logging failures never interrupt the run."""

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
    """Write the ``pivotal`` loggers' records of level INFO and above to a file.

    Args:
        path: the file; records are appended.
        warn: receives a sentence at the end if the file is incomplete, for example because the disk was full.
        on_console: whether the records also go to the program's own handlers.

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
                warn(f"{path} is incomplete ({reason}). Check free disk space and write permission.")


class _RunLog(logging.FileHandler):
    """A log file that remembers its failure; the standard handler prints a traceback for each failure instead."""

    def __init__(self, path: Path) -> None:
        # File names may contain what UTF-8 cannot encode.
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
