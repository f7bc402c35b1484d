"""From a folder to its images and captions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lib_pivotal.core.data.caption_file import read_caption
from lib_pivotal.core.data.folder import ImageEntry, list_folder
from lib_pivotal.core.data.image_file import UnusableImage, image_size
from lib_pivotal.core.data.shown import shown_path

__all__ = ["DatasetImage", "Flaw", "scan", "scan_entries"]

_REPEATS = re.compile(r"(\d{1,3})_")
"""Longer numbers are dates, not counts."""


class Flaw(NamedTuple):
    """Why an image cannot be used: continues the sentence "The image a.png …"; and what to do."""

    reason: str
    hint: str


@dataclass(frozen=True)
class DatasetImage:
    """One image of the dataset.

    Attributes:
        path: the file.
        caption: text of the .txt of the same stem, stripped; None when there is no such file.
        repeats: how often it counts in a pass, from kohya's ``N_name`` folders, 1 … 999.
        width: px, as shown (after EXIF orientation); 0 when unreadable.
        height: px.
        shown: path below the data folder as it may stand in messages.
        flaws: why it cannot be used; empty when it can.
        sha256: of the file, hex; empty until it has been read as a whole.
        is_cut: whether the webui's generation data stood behind the caption.
        lookalikes: names of files next to it that may have been meant as its caption.
    """

    path: Path
    caption: str | None
    repeats: int
    width: int
    height: int
    shown: str
    flaws: tuple[Flaw, ...] = ()
    sha256: str = ""
    is_cut: bool = False
    lookalikes: tuple[str, ...] = ()


def scan(folder: Path) -> list[DatasetImage]:
    """All images below ``folder``, sorted by relative path; reads headers and captions only.

    See :func:`lib_pivotal.core.data.folder.list_folder` for what is left out. A missing folder gives an empty list.
    """
    return scan_entries(folder, list_folder(folder).images)


def scan_entries(folder: Path, entries: list[ImageEntry]) -> list[DatasetImage]:
    """The images of a folder that has been listed."""
    return [_image(entry, folder) for entry in entries]


def _image(entry: ImageEntry, folder: Path) -> DatasetImage:
    flaws: list[Flaw] = []
    width = height = 0
    try:
        width, height = image_size(entry.path)
    except UnusableImage as error:
        flaws.append(Flaw(error.reason, error.hint))
    text, is_cut = None, False
    if entry.caption is not None:
        caption = read_caption(entry.caption, shown_path(entry.caption, folder))
        text, is_cut = caption.text, caption.is_cut
        if caption.problem:
            flaws.append(Flaw(caption.problem, caption.hint))
    return DatasetImage(
        path=entry.path,
        caption=text,
        repeats=_repeats(entry.path, folder),
        width=width,
        height=height,
        shown=shown_path(entry.path, folder),
        flaws=tuple(flaws),
        is_cut=is_cut,
        lookalikes=entry.lookalikes,
    )


def _repeats(path: Path, folder: Path) -> int:
    """N of the innermost ``N_name`` folder, the data folder included; else 1."""
    for parent in [path.parent, *path.parent.parents]:
        match = _REPEATS.match(parent.name)
        if match:
            return max(1, int(match.group(1)))
        if parent == folder:
            break
    return 1
