"""Formats file names for messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lib_pivotal.core.printable import printable

__all__ = ["listed", "shown_path"]

_MAX_LENGTH = 200
_LISTED = 5


def shown_path(path: Path, folder: Path | None = None) -> str:
    """Format a path so that it is printable and not too long.

    Args:
        path: path of a file or folder; need not be UTF-8.
        folder: if the path is inside this folder, it is shown relative to it, with ``/``.
    """
    if folder is not None and folder in path.parents:
        return printable(path.relative_to(folder).as_posix(), _MAX_LENGTH)
    return printable(path, _MAX_LENGTH)


def listed(names: Sequence[str]) -> str:
    """List the first few names and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
