"""How names of files and pieces of captions stand in messages, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["listed", "shown_path", "shown_text"]

_LONGEST = 200
_LISTED = 5


def shown_text(text: str, longest: int = _LONGEST) -> str:
    """A text of somebody else in printable letters, at most so many of them; control letters are shown as ``?``."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:longest])
    return shown if len(text) <= longest else f"{shown}…"


def shown_path(path: Path, folder: Path | None = None) -> str:
    """A path, printable and not endless.

    Args:
        path: of a file or folder; need not be UTF-8.
        folder: the path is shown relative to it and with ``/``, if it lies below it.
    """
    if folder is not None and folder in path.parents:
        return shown_text(path.relative_to(folder).as_posix())
    return shown_text(str(path))


def listed(names: Sequence[str]) -> str:
    """The first few of the names and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
