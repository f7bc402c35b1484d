"""Formats file names for messages."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from lib_pivotal.core.printable import printable

__all__ = ["bases", "listed", "shown_path"]

_MAX_LENGTH = 200
_LISTED = 5
_MAX_DEPTH = 8
"""How many parts of a path tell folders apart in messages, at most."""


def shown_path(path: Path, folder: Path | None = None) -> str:
    """Format a path so that it is printable and not too long.

    Args:
        path: path of a file or folder; need not be UTF-8.
        folder: if the path is inside this folder, it is shown relative to it, with ``/``.
    """
    if folder is not None and path != folder:
        with contextlib.suppress(ValueError):
            return printable(path.relative_to(folder).as_posix(), _MAX_LENGTH)
    return printable(path, _MAX_LENGTH)


def listed(names: Sequence[str]) -> str:
    """List the first few names and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def bases(folders: Sequence[Path]) -> list[Path]:
    """For each folder of a data set, the folder to which names of its files in messages are relative.

    A single folder is not named; several are shown with as many parts of their paths as tell them apart.
    """
    if len(folders) < 2:
        return list(folders)
    different = set(folders)
    depth = 1
    while depth < _MAX_DEPTH and len({folder.parts[-depth:] for folder in different}) < len(different):
        depth += 1
    return [[folder, *folder.parents][min(depth, len(folder.parents))] for folder in folders]
