"""From a folder to its pictures and captions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lib_pivotal.core.data.picture_file import DAMAGED, upright_size

__all__ = ["SUFFIXES", "Picture", "scan"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

_REPEATS = re.compile(r"(\d{1,3})_")
"""Longer numbers are dates, not counts."""


@dataclass(frozen=True)
class Picture:
    """One picture of the data set.

    Attributes:
        path: the file.
        caption: text of the .txt of the same stem, stripped; None when there is no such file.
        repeats: how often it counts in a pass, from kohya's ``N_name`` folders, 1 … 999.
        width: px, as shown (after EXIF orientation); 0 when unreadable.
        height: px.
        problem: why the file cannot be used; empty when it can.
    """

    path: Path
    caption: str | None
    repeats: int
    width: int
    height: int
    problem: str = ""


def scan(folder: Path) -> list[Picture]:
    """All pictures below ``folder``, sorted by relative path; reads headers and captions only.

    Hidden files and folders and ``*-masklabel.png`` are left out. A missing folder gives an empty list.
    """
    found = sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    return [_picture(path, folder) for path in found if not _is_left_out(path.relative_to(folder))]


def _is_left_out(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts) or relative.stem.endswith("-masklabel")


def _picture(path: Path, folder: Path) -> Picture:
    caption, problem = _read_caption(path.with_suffix(".txt"))
    width = height = 0
    try:
        with Image.open(path) as image:
            width, height = upright_size(image)
    except DAMAGED as error:
        problem = problem or f"cannot be read ({error.__class__.__name__})"
    return Picture(path, caption, _repeats(path, folder), width, height, problem)


def _read_caption(path: Path) -> tuple[str | None, str]:
    """Caption and problem; no file is no problem here."""
    try:
        return path.read_text(encoding="utf-8-sig").strip(), ""
    except FileNotFoundError:
        return None, ""
    except UnicodeDecodeError:
        return None, f"has a caption file {path.name} that is not UTF-8 text"
    except OSError as error:
        return None, f"has a caption file {path.name} that cannot be read ({error.strerror})"


def _repeats(path: Path, folder: Path) -> int:
    """N of the innermost ``N_name`` folder, the data folder included; else 1."""
    for parent in [path.parent, *path.parent.parents]:
        match = _REPEATS.match(parent.name)
        if match:
            return max(1, int(match.group(1)))
        if parent == folder:
            break
    return 1
