"""Reads what the headers of images say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lib_pivotal.core.config.data_settings import DataSettings
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.flaw import Flaw
from lib_pivotal.core.data.folder import ImageEntry
from lib_pivotal.core.data.folder_reading import read_folder
from lib_pivotal.core.data.image_file import UnusableImage, image_size
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.data.subsets import subsets_of

if TYPE_CHECKING:
    from lib_pivotal.core.data.mask import Mask

__all__ = ["DEFAULT_CAPTION", "DatasetImage", "Flaw", "scan", "scan_entry"]


DEFAULT_CAPTION = "default caption"
"""Source of captions that the settings give to images without one."""


@dataclass(frozen=True)
class DatasetImage:
    """One image of the dataset.

    Attributes:
        path: the file.
        caption: its caption without surrounding spaces, possibly of several lines; None if there is none.
        repeats: how often it counts, > 0: from the names of its folders or multiply.txt, times those of its subset.
        width: width in px after applying the EXIF orientation; 0 if unreadable.
        height: height in px, likewise.
        shown: path for messages, relative to the data folder if there is only one.
        flaws: why it cannot be used; empty if it can.
        sha256: hex hash of the file; empty until the whole file has been read.
        is_cut: whether the webui's generation data was removed from the caption.
        source: where the caption comes from, such as ``.txt``, ``metadata``, ``folder`` or ``default caption``; empty
            if there is none.
        caption_file: the file of its own that the caption comes from; None if it comes from elsewhere.
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
    source: str = ""
    caption_file: Path | None = None
    lookalikes: tuple[str, ...] = ()
    subset: Subset = field(default_factory=Subset)
    notes: tuple[str, ...] = ()
    transparency: float = 0.0
    mask: Mask | None = None


def scan(folder: Path) -> list[DatasetImage]:
    """All images of a folder and its subfolders, sorted by relative path; none if there is no such folder.

    See :func:`lib_pivotal.core.data.folder.list_folder` for what is left out.
    """
    settings = DataSettings(data_folder=str(folder))
    (subset,) = subsets_of(settings)
    return [scan_entry(entry, folder, subset) for entry in read_folder(folder, subset, settings).images]


def scan_entry(entry: ImageEntry, folder: Path, subset: Subset, size: tuple[int, int] | None = None) -> DatasetImage:
    """Read the header of an image whose caption has been read.

    Args:
        entry: the image with its caption.
        folder: the folder of its subset.
        subset: its settings.
        size: width and height in px if they are known; None reads the header.
    """
    flaws = list(entry.flaws)
    width = height = 0
    try:
        width, height = size or image_size(entry.path)
    except UnusableImage as error:
        flaws.insert(0, Flaw(error.reason, error.hint))
    # A caption that cannot be used is not replaced.
    without = None if entry.flaws else subset.default_caption or None
    return DatasetImage(
        path=entry.path,
        caption=without if entry.text is None else entry.text,
        repeats=entry.repeats * subset.repeats,
        width=width,
        height=height,
        shown=entry.shown or shown_path(entry.path, folder),
        flaws=tuple(flaws),
        is_cut=entry.is_cut,
        source=DEFAULT_CAPTION if entry.text is None and without else entry.source,
        caption_file=entry.caption_file,
        lookalikes=entry.lookalikes,
        subset=subset,
    )
