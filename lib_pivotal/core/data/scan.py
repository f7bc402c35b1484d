"""Reads what the headers of images and their caption files say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.caption_file import read_caption
from lib_pivotal.core.data.folder import ImageEntry, list_folder
from lib_pivotal.core.data.image_file import UnusableImage, image_size
from lib_pivotal.core.data.shown import shown_path

if TYPE_CHECKING:
    from lib_pivotal.core.data.mask import Mask

__all__ = ["DatasetImage", "Flaw", "scan", "scan_entry"]

_REPEATS = re.compile(r"(\d{1,3})_")
"""Maximum digits of a repeat count; longer numbers are dates."""


class Flaw(NamedTuple):
    """Why an image cannot be used, continuing the sentence "The image a.png …", and what to do."""

    reason: str
    hint: str


@dataclass(frozen=True)
class DatasetImage:
    """One image of the dataset.

    Attributes:
        path: the file.
        caption: stripped text of the .txt file of the same stem; None if there is none.
        repeats: how often it counts, > 0: from kohya's ``N_name`` folders, times the repeats of its subset.
        width: width in px after applying the EXIF orientation; 0 if unreadable.
        height: height in px, likewise.
        shown: path relative to the data folder, for messages.
        flaws: why it cannot be used; empty if it can.
        sha256: hex hash of the file; empty until the whole file has been read.
        is_cut: whether the webui's generation data was removed from the caption.
        lookalikes: names of files next to it that may be meant as its caption.
        subset: the folder of the data set that it belongs to, with its settings.
        notes: what should be said about it, see :func:`lib_pivotal.core.data.image_file.notes_of`.
        transparency: mean transparency, 0 … 1; 0 until the whole file has been read.
        mask: how much its parts count; None if it has no mask.
    """

    path: Path
    caption: str | None
    repeats: float
    width: int
    height: int
    shown: str
    flaws: tuple[Flaw, ...] = ()
    sha256: str = ""
    is_cut: bool = False
    lookalikes: tuple[str, ...] = ()
    subset: Subset = field(default_factory=Subset)
    notes: tuple[str, ...] = ()
    transparency: float = 0.0
    mask: Mask | None = None


def scan(folder: Path) -> list[DatasetImage]:
    """All images of a folder and its subfolders, sorted by relative path; none if there is no such folder.

    See :func:`lib_pivotal.core.data.folder.list_folder` for what is left out.
    """
    return [scan_entry(entry, folder, Subset()) for entry in list_folder(folder).images]


def scan_entry(entry: ImageEntry, folder: Path, subset: Subset, size: tuple[int, int] | None = None) -> DatasetImage:
    """Read the header and the caption of an image.

    Args:
        entry: the image and its caption file.
        folder: the folder of its subset.
        subset: its settings.
        size: width and height in px if they are known; None reads the header.
    """
    flaws: list[Flaw] = []
    width = height = 0
    try:
        width, height = size or image_size(entry.path)
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
        repeats=_repeats(entry.path, folder) * subset.repeats,
        width=width,
        height=height,
        shown=shown_path(entry.path, folder),
        flaws=tuple(flaws),
        is_cut=is_cut,
        lookalikes=entry.lookalikes,
        subset=subset,
    )


def _repeats(path: Path, folder: Path) -> int:
    """N of the innermost ``N_name`` folder, including the data folder itself; otherwise 1."""
    for parent in [path.parent, *path.parent.parents]:
        match = _REPEATS.match(parent.name)
        if match:
            return max(1, int(match.group(1)))
        if parent == folder:
            break
    return 1
