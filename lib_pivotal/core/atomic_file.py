"""Writes files completely or not at all, and removes partial files left by killed processes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import platform
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lib_pivotal.core.process import is_running

__all__ = ["FileInUse", "free_name", "remove_stale", "replacing"]

logger = logging.getLogger("pivotal.files")

_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5)
"""Seconds between attempts. A virus scanner releases a file within seconds; a program that has loaded it does not."""
_QUIET_AFTER = 3600.0
"""Seconds without a change after which a file is assumed to be no longer written."""
_COMPUTER = hashlib.sha256(platform.node().encode("utf-8", "replace")).hexdigest()[:8]
_PARTIAL = re.compile(r"\..+\.(?P<computer>[0-9a-f]{8})-(?P<pid>\d{1,10})-[0-9a-f]{8}\.tmp", re.DOTALL)
_PARTIAL_BEFORE = re.compile(r"(?:\..+\.(?:safetensors|json|csv|png)|[0-9a-f]{64})\.(?P<pid>\d{1,10})\.tmp", re.DOTALL)
"""Names of temporary files of earlier releases."""
_PARTIAL_OF_SAFETENSORS = re.compile(r"\.tmp[0-9A-Za-z]{6}")
"""Names of temporary files of newer versions of the safetensors library."""

_writing: set[str] = set()
"""Names of partial files that this process is writing; each occurs only once, in whatever folder."""


class FileInUse(PermissionError):
    """A file cannot be replaced because another program holds it open; the new contents are kept next to it.

    Args:
        path: the file, which is unchanged.
        kept: path of the new file.
    """

    def __init__(self, path: Path, kept: Path) -> None:
        text = f"another program has it open or it is read-only; the new file is {kept.name} in the same folder"
        super().__init__(errno.EACCES, text, str(path))
        self.kept = kept


@contextlib.contextmanager
def replacing(path: Path, *, keep: bool = True, before: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield a temporary path in the same folder that replaces ``path`` if the context ends without an error.

    The data is flushed to disk before the file is renamed, so that a crash leaves the old file or the new one. If
    ``path`` is a link, its target is replaced and the link stays.

    Args:
        path: the file.
        keep: whether to keep the new file under a free name next to ``path`` if that cannot be replaced.
        before: called with the complete temporary file right before it is renamed.

    Raises:
        FileInUse: another program holds ``path`` open; the new contents are next to it.
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    partial = _partial_path(target)
    _writing.add(partial.name)
    try:
        with partial.open("xb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        yield partial
        _flush(partial, mode)
        if before is not None:
            before(partial)
        _replace(partial, target, keep=keep)
    finally:
        # If this fails, the file is removed at the next start; the real error must not be hidden.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        _writing.discard(partial.name)


def free_name(path: Path) -> Path:
    """``path``, or the first of ``name-2``, ``name-3``, … that does not exist, not even as a broken link."""
    number, result = 1, path
    while os.path.lexists(result):
        number += 1
        result = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return result


def remove_stale(folder: Path) -> list[str]:
    """Remove temporary files in ``folder`` (not in subfolders) whose process has ended.

    Files of running processes and files with other names are kept.

    Returns:
        Names of the removed files.
    """
    removed = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    for entry in entries:
        try:
            if ".tmp" in entry.name and _is_stale(entry):
                os.unlink(entry.path)  # noqa: PTH108  (an entry of scandir)
                removed.append(entry.name)
        except OSError as error:
            logger.debug("the temporary file %s stays: %s", entry.name, error)
    if removed:
        logger.info("removed %d unfinished files of runs that were killed from %s", len(removed), folder)
    return removed


def _partial_path(target: Path) -> Path:
    # Long names are shortened, because the whole name with our suffix might be too long.
    return target.with_name(f".{target.name[:40]}.{_COMPUTER}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _flush(partial: Path, mode: int) -> None:
    """Flush the data to disk and set the permissions of an ordinary file (safetensors sets fewer)."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    if stat.S_IMODE(partial.stat().st_mode) != mode:
        partial.chmod(mode)


def _replace(partial: Path, target: Path, *, keep: bool) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    for wait in (*_WAITS, None):
        try:
            os.replace(partial, target)
        except PermissionError as error:
            if wait is not None:
                time.sleep(wait)
                continue
            if not keep:
                raise
            kept = free_name(target)
            try:
                os.replace(partial, kept)
            except OSError:
                raise error from None
            raise FileInUse(target, kept) from error
        return


def _is_stale(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file(follow_symlinks=False) or entry.name in _writing:
        return False
    is_quiet = time.time() - entry.stat(follow_symlinks=False).st_mtime > _QUIET_AFTER
    ours = _PARTIAL.fullmatch(entry.name)
    if ours:
        return is_quiet or (ours["computer"] == _COMPUTER and not _is_other_process(int(ours["pid"])))
    before = _PARTIAL_BEFORE.fullmatch(entry.name)
    if before:
        return is_quiet or not is_running(int(before["pid"]))
    # These names do not contain a process id, so the file must be old and begin like a safetensors file.
    return is_quiet and bool(_PARTIAL_OF_SAFETENSORS.fullmatch(entry.name)) and _begins_as_safetensors(entry.path)


def _is_other_process(pid: int) -> bool:
    """Whether ``pid`` is running and is not this process, whose files are known (ids are reused)."""
    return pid != os.getpid() and is_running(pid)


def _begins_as_safetensors(path: str) -> bool:
    with Path(path).open("rb") as file:
        start = file.read(9)
    return not start or start[8:9] == b"{"
