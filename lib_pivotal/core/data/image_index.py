"""Remembers facts about image files, so that unchanged files need not be decoded again."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.data.image_facts import ImageFacts

__all__ = ["ImageIndex"]

logger = logging.getLogger("pivotal.images")

_NAME = "images.json"
_VERSION = 2
"""Changes when the facts do."""
_MAX_BYTES = 2**28
_MAX_FILES = 200_000


class ImageIndex:
    """Facts about image files, kept in a file in the cache folder.

    A file counts as unchanged if its path, size and time of the last change are the same. Damaged or missing indexes
    are empty ones.

    Args:
        folder: the cache folder; None remembers nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / _NAME if folder is not None else None
        self._before: dict[str, Any] = _load(self._path) if self._path is not None else {}
        self._new: dict[str, Any] = {}

    def find(self, path: Path, stat: os.stat_result) -> ImageFacts | None:
        """The facts about a file; None if it is unknown or has changed.

        Args:
            path: the file.
            stat: its current state.
        """
        values = self._before.get(_key(path), ())
        try:
            if values[0] != stat.st_size or values[1] != stat.st_mtime_ns:
                return None
            width, height, sha256, pixels, notes, transparency = values[2:]
            texts = tuple(map(str, notes))
            return ImageFacts(int(width), int(height), str(sha256), str(pixels), texts, float(transparency))
        except (TypeError, ValueError, KeyError, IndexError):
            return None

    def add(self, path: Path, stat: os.stat_result, facts: ImageFacts) -> None:
        """Remember the facts about a file.

        Args:
            path: the file.
            stat: its state before it was read.
            facts: what was found.
        """
        self._new[_key(path)] = [stat.st_size, stat.st_mtime_ns, *facts]

    def save(self) -> None:
        """Write what is new; a failure only costs time later."""
        if self._path is None or not self._new:
            return
        files = {**self._before, **self._new}
        # The oldest entries come first.
        for key in list(files)[: max(0, len(files) - _MAX_FILES)]:
            del files[key]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path, keep=False) as partial:
                partial.write_text(json.dumps({"version": _VERSION, "files": files}), encoding="utf-8")
        except (OSError, ValueError) as error:
            logger.warning("The list of known images cannot be stored: %s", error)
        self._before, self._new = files, {}


def _key(path: Path) -> str:
    # Surrogates of names that are not UTF-8 are escaped, as JSON may contain them only so.
    return str(path.absolute())


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        values = json.loads(path.read_bytes())
        files = values["files"] if values["version"] == _VERSION else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return files if isinstance(files, dict) else {}
