"""A lock between processes that the operating system releases when its holder ends, even after a crash."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["AlreadyLocked", "locked"]

logger = logging.getLogger("pivotal.lock")

_IS_WINDOWS = os.name == "nt"
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class AlreadyLocked(OSError):
    """The lock is already held."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock ``path``, a small file made for this purpose, for this process; it is removed at the end.

    On file systems without locks (some network drives) nothing is locked.

    Raises:
        AlreadyLocked: it is locked by another process or elsewhere in this one.
        OSError: the file cannot be created.
    """
    descriptor = _acquire(path)
    try:
        yield
    finally:
        _release(path, descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            # The previous holder may have removed the file after we opened it and before we locked it.
            if _is_same_file(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        if _IS_WINDOWS:
            # This module only exists on Windows, and fcntl only elsewhere.
            system = importlib.import_module("msvcrt")
            system.locking(descriptor, system.LK_NBLCK, 1)
        else:
            system = importlib.import_module("fcntl")
            system.flock(descriptor, system.LOCK_EX | system.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise AlreadyLocked(error.errno, "in use by another process") from error
        logger.debug("this file system has no locks: %s", error)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(path: Path, descriptor: int) -> None:
    """Remove the file while it is still locked; Windows cannot remove an open file, so it is closed first there."""
    if _IS_WINDOWS:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        path.unlink()
    if not _IS_WINDOWS:
        os.close(descriptor)
