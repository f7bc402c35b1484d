"""Applies edits of caption files and undoes them byte by byte; the old contents are kept in a folder of our own."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.data.caption_edits import EditPlan, FileEdit
from lib_pivotal.core.data.old_files import remove_old
from lib_pivotal.core.data.shown import listed, shown_path
from lib_pivotal.core.errors import DatasetError

__all__ = ["CaptionHistory", "UndoEntry", "Undone"]

logger = logging.getLogger("pivotal.captions")

_VERSION = 1
_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_ANY = "????????-??????-????????.json"
_KEPT = 100
"""Edits that can be undone however old they are; older ones go after 30 days."""
_KEPT_DAYS = 30
_LISTED = 20
_SHOWN = 5


@dataclass(frozen=True)
class UndoEntry:
    """Edits that can be undone.

    Attributes:
        id: names them.
        title: what was done.
        time: when, in local time, such as ``2026-01-31 12:00``.
        count: number of files.
        files: a few of the files, for messages.
    """

    id: str
    title: str
    time: str
    count: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Undone:
    """What was undone: files that are as before, and files that have changed since and stay as they are."""

    restored: tuple[Path, ...]
    refused: tuple[Path, ...]


class CaptionHistory:
    """Applies edits, one undo file for each, and undoes them.

    Args:
        folder: where the undo files are; created when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def apply(self, plan: EditPlan) -> str:
        """Write all files of a plan, or none.

        Args:
            plan: see :func:`lib_pivotal.core.data.caption_edits.plan_edits`.

        Returns:
            Id of the undo entry; empty if there is nothing to write.

        Raises:
            DatasetError: a file has changed since the plan was made, or cannot be written; nothing has been changed.
        """
        if not plan.files:
            return ""
        with self._lock:
            changed = [file.path for file in plan.files if _read(file.path) != file.before]
            if changed:
                text = f"Changed since the preview: {_names(changed)}. Nothing was written."
                raise DatasetError(text, hint="Preview the edit again.")
            entry = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
            try:
                self._store(entry, plan.title, [_as_undo(file) for file in plan.files])
            except OSError as error:
                text = f"The undo file cannot be written ({error.strerror or error}). Nothing was changed."
                raise DatasetError(text, hint=f"Check the folder {shown_path(self._folder)}.") from error
            self._write_all(entry, plan)
            remove_old(self._folder, _ANY, keep=_KEPT, days=_KEPT_DAYS)
        return entry

    def entries(self, limit: int = _LISTED) -> list[UndoEntry]:
        """The newest edits that can be undone, newest first; damaged files are left out.

        Args:
            limit: how many at most.
        """
        try:
            names = sorted(path.stem for path in self._folder.glob("*.json") if _NAME.fullmatch(path.stem))
        except OSError:
            return []
        found = []
        for name in reversed(names[-limit:]):
            values = self._find(name)
            if values is not None:
                files = [Path(file["path"]) for file in values["files"]]
                shown = tuple(shown_path(path, path.parent) for path in files[:_SHOWN])
                found.append(UndoEntry(name, values["title"], values["time"], len(files), shown))
        return found

    def undo(self, entry: str) -> Undone:
        """Restore the files of an edit; those that have changed since stay as they are and can be undone later.

        Args:
            entry: see :class:`UndoEntry`.

        Raises:
            DatasetError: there is no such entry, or a file cannot be written.
        """
        with self._lock:
            values = self._load(entry)
            restored: list[Path] = []
            refused: list[dict[str, Any]] = []
            for index, file in enumerate(values["files"]):
                path = Path(file["path"])
                before = None if file["before"] is None else base64.b64decode(file["before"])
                now = _read(path)
                try:
                    if now is not None and hashlib.sha256(now).hexdigest() == file["after"]:
                        _restore(path, before)
                    elif now != before:
                        refused.append(file)
                        continue
                except OSError as error:
                    self._store(entry, values["title"], [*refused, *values["files"][index:]], values["time"])
                    text = f"{shown_path(path)} cannot be written ({error.strerror or error})."
                    raise DatasetError(text, hint="Close programs that use it, and undo again.") from error
                restored.append(path)
            if refused:
                self._store(entry, values["title"], refused, values["time"])
            else:
                self._path(entry).unlink()
        return Undone(tuple(restored), tuple(Path(file["path"]) for file in refused))

    def _write_all(self, entry: str, plan: EditPlan) -> None:
        written: list[FileEdit] = []
        try:
            for file in plan.files:
                _write(file.path, file.after)
                written.append(file)
        except OSError as error:
            text = f"{shown_path(file.path)} cannot be written ({error.strerror or error})."
            left = _taken_back(written)
            if left:
                text += f" These files have been changed: {_names(left)}."
                raise DatasetError(text, hint="Undo the edit once the disk can be written.") from error
            self._path(entry).unlink(missing_ok=True)
            raise DatasetError(f"{text} Nothing was changed.", hint="Check the disk and the permissions.") from error

    def _path(self, entry: str) -> Path:
        return self._folder / f"{entry}.json"

    def _store(self, entry: str, title: str, files: Sequence[dict[str, Any]], when: str = "") -> None:
        values = {
            "version": _VERSION,
            "title": title,
            "time": when or time.strftime("%Y-%m-%d %H:%M"),
            "files": list(files),
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._path(entry), keep=False) as partial:
            partial.write_text(json.dumps(values), encoding="utf-8")

    def _load(self, entry: str) -> dict[str, Any]:
        values = self._find(entry)
        if values is None:
            text = "This edit can no longer be undone: its undo file is missing or damaged."
            raise DatasetError(text, hint="Look at the list of edits again.")
        return values

    def _find(self, entry: str) -> dict[str, Any] | None:
        """Contents of an undo file; None if it is missing or damaged."""
        if not _NAME.fullmatch(entry):
            return None
        try:
            values = json.loads(self._path(entry).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        is_ours = isinstance(values, dict) and values.get("version") == _VERSION
        return values if is_ours and {"title", "time", "files"} <= values.keys() else None


def _as_undo(file: FileEdit) -> dict[str, Any]:
    before = None if file.before is None else base64.b64encode(file.before).decode("ascii")
    return {
        "path": str(file.path.absolute()),
        "before": before,
        "after": hashlib.sha256(file.after).hexdigest(),
    }


def _taken_back(files: Sequence[FileEdit]) -> list[Path]:
    """Restore files; returns those that could not be restored."""
    left = []
    for file in files:
        try:
            _restore(file.path, file.before)
        except OSError:
            logger.exception("%s could not be restored", file.path)
            left.append(file.path)
    return left


def _restore(path: Path, before: bytes | None) -> None:
    if before is None:
        path.unlink()
    else:
        _write(path, before)


def _write(path: Path, data: bytes) -> None:
    def keep_permissions(partial: Path) -> None:
        if path.exists():
            shutil.copymode(path, partial)

    with replacing(path, keep=False, before=keep_permissions) as partial:
        partial.write_bytes(data)


def _read(path: Path) -> bytes | None:
    """Contents of a file; None if it does not exist."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        text = f"{shown_path(path)} cannot be read ({error.strerror or error})."
        raise DatasetError(text, hint="Check its permissions.") from error


def _names(paths: Sequence[Path]) -> str:
    return listed([shown_path(path, path.parent) for path in paths])
