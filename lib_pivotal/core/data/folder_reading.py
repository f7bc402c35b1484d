"""Reads a data folder: its images with captions and repeats, and what is to be said about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_pivotal.core.config.data_settings import DataSettings
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data import metadata_file
from lib_pivotal.core.data.folder import FolderContents, ImageEntry, list_folder
from lib_pivotal.core.data.image_captions import ImageCaptions
from lib_pivotal.core.data.metadata_file import Metadata, MetadataFile, UnusableMetadata, read_metadata
from lib_pivotal.core.data.reading_findings import caption_notes, metadata_notes, repeat_notes
from lib_pivotal.core.data.repeats import FolderRepeats
from lib_pivotal.core.data.shown import listed, shown_path
from lib_pivotal.core.errors import Problem

__all__ = ["FolderReading", "read_folder"]


@dataclass(frozen=True)
class FolderReading:
    """A data folder whose captions have been read.

    Attributes:
        images: images with captions and repeats, sorted by relative path.
        unused: kind → number of files that are not used.
        closed: folders that cannot be listed, with the reason.
        problems: problems with captions and repeats that concern several files.
    """

    images: Sequence[ImageEntry]
    unused: Counter[str]
    closed: Sequence[tuple[Path, str]]
    problems: Sequence[Problem]


def read_folder(
    folder: Path,
    subset: Subset,
    settings: DataSettings,
    *,
    field: str = "data_folder",
    base: Path | None = None,
    apart: frozenset[str] = frozenset(),
) -> FolderReading:
    """List a folder and read all captions in it; images are not opened.

    Args:
        folder: the folder.
        subset: its settings.
        settings: of the whole data set.
        field: the setting that holds the folder.
        base: folder to which names in messages are relative; None for ``folder``.
        apart: see :func:`lib_pivotal.core.data.folder.list_folder`.
    """
    contents = list_folder(folder, subfolders=subset.subfolders, apart=apart)
    base = base or folder

    def show(path: Path) -> str:
        return shown_path(path, base)

    files, problems = _metadata_files(contents, settings, field, base)
    metadata = Metadata(files, (entry.path for entry in contents.images))
    repeats = FolderRepeats(folder, contents, settings.folder_repeats)
    captions = ImageCaptions(subset, settings, metadata, repeats, show)
    images = [captions.read(entry) for entry in contents.images]
    if captions.notes.not_chosen:
        contents.unused["caption of another source"] += captions.notes.not_chosen
    problems += _shared(contents.images, field, base)
    problems += metadata_notes(metadata, field, show)
    problems += caption_notes(captions.notes, subset, settings, field, shown_path(folder))
    problems += repeat_notes(repeats, contents, field, show)
    return FolderReading(images, contents.unused, contents.closed, problems)


def _metadata_files(
    contents: FolderContents, settings: DataSettings, field: str, base: Path
) -> tuple[list[MetadataFile], list[Problem]]:
    """Read the metadata files of a folder; other files are counted as unused."""
    found: list[MetadataFile] = []
    problems: list[Problem] = []
    left = metadata_file.MAX_BYTES
    for path in contents.metadata:
        shown = shown_path(path, base)
        try:
            file, size = read_metadata(path, shown, limit=left, encoding=settings.caption_encoding)
        except UnusableMetadata as error:
            hint = "If it contains captions, repair it; otherwise move it out of the data folder."
            problems.append(Problem(field, "warning", str(error), hint))
            continue
        left -= size
        if file is None:
            contents.unused[path.suffix.lower()] += 1
        else:
            found.append(file)
    return found, problems


def _shared(images: Sequence[ImageEntry], field: str, base: Path) -> list[Problem]:
    """Images that have their caption file in common."""
    owners: dict[Path, list[Path]] = {}
    for entry in images:
        if entry.captions:
            owners.setdefault(entry.captions[0], []).append(entry.path)
    shared = [
        f"{' and '.join(shown_path(image, base) for image in owner)} share {shown_path(caption, base)}"
        for caption, owner in owners.items()
        if len(owner) > 1
    ]
    if not shared:
        return []
    hint = "If they show different things, give each its own caption, such as NAME.png.txt."
    return [Problem(field, "warning", f"{listed(shared)}.", hint)]
