"""Reads a dataset once per start; the checks pass the result on to the training."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.bucket_image import KeptImages, fit
from lib_pivotal.core.data.caption_template import read_templates
from lib_pivotal.core.data.folder import find_folder, list_folder
from lib_pivotal.core.data.image_file import UnusableImage, read_bytes, read_image
from lib_pivotal.core.data.scan import DatasetImage, Flaw, scan_entry
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.data.subsets import field_of, subsets_of
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["DatasetReport", "read_dataset"]

_STRIP_PIXELS = 2**20
"""Number of pixels copied at a time to compare images."""


@dataclass(frozen=True)
class DatasetReport:
    """Contents of the folders of a data set.

    Attributes:
        folders: the folders that were read, in the order of the subsets.
        images: all images, including unusable ones, by subset, then sorted by relative path.
        copies: pairs of images with the same pixels, in order.
        unused: kind → number of files that are not used.
        problems: problems with the folder and its subfolders, not with single files.
        templates: the templates of captions.
        kept: images fitted to their buckets, for encoding; None if they are not kept.
    """

    folders: tuple[Path, ...]
    images: tuple[DatasetImage, ...] = ()
    copies: tuple[tuple[DatasetImage, DatasetImage], ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    templates: tuple[str, ...] = ()
    kept: KeptImages | None = None

    @property
    def usable(self) -> tuple[DatasetImage, ...]:
        """The images that can be used for training."""
        return tuple(image for image in self.images if not image.flaws)

    @property
    def folder(self) -> Path:
        """The first folder, which stands for the data set in messages."""
        return self.folders[0]

    def digest(self) -> str:
        """Hex digest of everything in files that determines the order and content of steps."""
        digest = hashlib.sha256()
        for image in self.usable:
            # Names need not be UTF-8. Except on Windows, this restores the bytes of the file system.
            folder = next(folder for folder in self.folders if folder in image.path.parents)
            name = os.fsencode(image.path.relative_to(folder).as_posix())
            texts = (image.sha256, image.caption or "", f"{image.repeats:g}")
            digest.update(b"\0".join([name, *(text.encode() for text in texts)]))
        if self.templates:
            digest.update(b"\0templates\0" + "\0".join(self.templates).encode())
        return digest.hexdigest()


def read_dataset(config: TrainConfig, *, kept: KeptImages | None = None) -> DatasetReport:
    """List the folders of a data set, read every file in them once, and decode every image once.

    Images are decoded because a truncated image is only noticed then.

    Args:
        config: its settings of the data set are used.
        kept: receives the decoded images.
    """
    reader = _Reader(kept)
    for index, subset in enumerate(subsets_of(config, config.subsets)):
        reader.read(subset, field_of(config, index))
    templates: tuple[str, ...] = ()
    try:
        templates = read_templates(config.caption_template)
    except ConfigError as error:
        reader.problems += error.problems
    return DatasetReport(
        folders=tuple(reader.folders),
        images=tuple(reader.images),
        copies=tuple(reader.copies),
        unused=dict(reader.unused),
        problems=tuple(reader.problems),
        templates=templates,
        kept=kept,
    )


class _Reader:
    """Reads one folder after another.

    Args:
        kept: receives the decoded images.
    """

    def __init__(self, kept: KeptImages | None) -> None:
        self.folders: list[Path] = []
        self.images: list[DatasetImage] = []
        self.copies: list[tuple[DatasetImage, DatasetImage]] = []
        self.unused: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self._kept = kept
        self._seen: dict[str, DatasetImage] = {}

    def read(self, subset: Subset, field: str) -> None:
        """Read a folder.

        Args:
            subset: the folder and its settings.
            field: the setting that holds the folder.
        """
        folder, problem = find_folder(subset.folder)
        self.folders.append(folder)
        if problem:
            self.problems.append(Problem(field, "error", *problem))
            return
        contents = list_folder(folder, subfolders=subset.subfolders)
        self.unused.update(contents.unused)
        self.problems += [_closed(path, reason, folder, field) for path, reason in contents.closed]
        for entry in contents.images:
            read, pixels = _read(scan_entry(entry, folder, subset), self._kept)
            self.images.append(read)
            if pixels and self._seen.setdefault(pixels, read) is not read:
                self.copies.append((self._seen[pixels], read))


def _closed(path: Path, reason: str, folder: Path, field: str) -> Problem:
    text = f"The folder {shown_path(path, folder)} cannot be read ({reason})."
    hint = "Check its permissions" + ("." if path == folder else ", or move it out of the data folder.")
    return Problem(field, "error", text, hint)


def _read(image: DatasetImage, kept: KeptImages | None) -> tuple[DatasetImage, str]:
    """Return the image with its hash and decoded size, or with its flaw, and a digest of its pixels."""
    if not image.width:
        return image, ""
    try:
        data = read_bytes(image.path)
        sha256 = hashlib.sha256(data).hexdigest()
        decoded = read_image(data)
        if kept is not None:
            kept.keep(sha256, decoded)
        # Any part of it shows whether it can be converted to RGB.
        fit(decoded.crop((0, 0, 1, 1)), (1, 1))
        pixels = _pixel_digest(decoded)
    except UnusableImage as error:
        return replace(image, flaws=(*image.flaws, Flaw(error.reason, error.hint))), ""
    return replace(image, width=decoded.width, height=decoded.height, sha256=sha256), pixels


def _pixel_digest(image: Image.Image) -> str:
    """Digest that is equal for images that look the same, whatever their file format."""
    digest = hashlib.sha256()
    height = max(1, _STRIP_PIXELS // image.width)
    # Palette indices mean nothing by themselves; every other mode is compared as it is.
    mode = "RGBA" if image.mode == "P" else image.mode
    for top in range(0, image.height, height):
        strip = image.crop((0, top, image.width, min(top + height, image.height)))
        digest.update((strip if strip.mode == mode else strip.convert(mode)).tobytes())
    digest.update(f"{mode}{image.size}".encode())
    return digest.hexdigest()
