"""How often the images of a folder count: multiply.txt, or N of a folder named N_text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lib_pivotal.core.data.folder import FolderContents
from lib_pivotal.core.data.known_files import has_marker

__all__ = ["MAX_REPEATS", "FolderRepeats"]

MAX_REPEATS = 1000.0
"""Maximum number in multiply.txt."""

_NUMBERED = re.compile(r"(\d+)_(.*)", re.DOTALL)
_PEOPLE = ("character", "characters", "person", "persons", "people")
"""What anime_screenshot_pipeline counts in names of folders."""
_MAX_DIGITS = 4
_USUAL_DIGITS = 3
_YEARS = range(1900, 2100)
_LEVELS_ABOVE = 3
"""How many folders above the data folder may be the top of a tree of anime_screenshot_pipeline."""

_MAX_BYTES = 100


class _Numbered(NamedTuple):
    """A folder named N_text."""

    folder: Path
    number: int
    text: str


class FolderRepeats:
    """Repeats of the images of each folder, and what its name says about them.

    Args:
        folder: the data folder.
        contents: what is in it.
        mode: ``auto``, ``yes`` or ``no``, the setting ``folder_repeats``.
    """

    def __init__(self, folder: Path, contents: FolderContents, mode: str) -> None:
        self._folder = folder
        self._mode = mode
        self._multiply = contents.multiply
        self._markers = contents.markers
        self._is_below_marker = mode == "auto" and any(has_marker(above) for above in _above(folder))
        self._known: dict[Path, tuple[float, str]] = {}
        self.multiplied: dict[Path, float] = {}
        """Folders whose file multiply.txt counts, with its number."""
        self.broken: list[Path] = []
        """Files multiply.txt without a number that can be used."""
        self.people: dict[Path, None] = {}
        """Folders whose number counts people, in order."""
        self.not_repeats: dict[Path, None] = {}
        """Folders whose number is probably a date."""
        self.many: dict[Path, None] = {}
        """Folders whose number is unusually large."""
        self.zero: dict[Path, None] = {}
        """Folders whose number is 0."""

    def of(self, folder: Path) -> tuple[float, str]:
        """How often the images directly in a folder count, > 0, and the text of the nearest folder named N_text."""
        if folder not in self._known:
            numbered = next(self._numbered(folder), None)
            repeats = float(max(1, numbered.number)) if numbered else 1.0
            own = self._own(folder)
            self._known[folder] = (repeats if own is None else own, numbered.text.strip() if numbered else "")
        return self._known[folder]

    def _own(self, folder: Path) -> float | None:
        path = self._multiply.get(folder)
        if path is None:
            return None
        number = _read_number(path)
        if number is None:
            self.broken.append(path)
        else:
            self.multiplied[folder] = number
        return number

    def _numbered(self, folder: Path) -> Iterator[_Numbered]:
        """Folders named N_text whose number means repeats, from the innermost to the data folder itself."""
        around = [folder, *folder.parents]
        for index, parent in enumerate(around):
            match = _NUMBERED.match(parent.name)
            if match and self._means_repeats(parent, match[1], match[2], around[index:]):
                yield _Numbered(parent, int(match[1]), match[2])
            if parent == self._folder:
                return

    def _means_repeats(self, folder: Path, digits: str, text: str, around: list[Path]) -> bool:
        if self._mode == "no":
            return False
        is_long = len(digits) > _USUAL_DIGITS
        if self._mode == "yes":
            return len(digits) <= _MAX_DIGITS
        if text.lower() in _PEOPLE or self._is_below_marker or not self._markers.isdisjoint(around[1:]):
            self.people[folder] = None
            return False
        if is_long and (len(digits) > _MAX_DIGITS or digits.startswith("0") or int(digits) in _YEARS):
            self.not_repeats[folder] = None
            return False
        if is_long:
            self.many[folder] = None
        elif int(digits) == 0:
            self.zero[folder] = None
        return True


def _above(folder: Path) -> list[Path]:
    return list(folder.absolute().parents)[:_LEVELS_ABOVE]


def _read_number(path: Path) -> float | None:
    """The number in a file; None if it cannot be used."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            number = float(file.read(_MAX_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError):
        return None
    return number if math.isfinite(number) and 0 < number <= MAX_REPEATS else None
