"""Reads a dataset once per start; the checks pass the result on to the training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from lib_pivotal.core.data.bucket_image import KeptImages, fit
from lib_pivotal.core.data.folder import find_folder, list_folder
from lib_pivotal.core.data.image_file import UnusableImage, read_bytes, read_image
from lib_pivotal.core.data.scan import DatasetImage, Flaw, scan_entry
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.errors import Problem

__all__ = ["DatasetReport", "read_dataset"]

_STRIP_PIXELS = 2**20
"""Number of pixels copied at a time to compare images."""


@dataclass(frozen=True)
class DatasetReport:
    """Contents of a data folder.

    Attributes:
        folder: the folder that was read.
        images: all images, including unusable ones, sorted by relative path.
        copies: pairs of images with the same pixels, in order.
        unused: kind → number of files that are not used.
        problems: problems with the folder and its subfolders, not with single files.
        kept: images fitted to their buckets, for encoding; None if they are not kept.
    """

    folder: Path
    images: tuple[DatasetImage, ...] = ()
    copies: tuple[tuple[DatasetImage, DatasetImage], ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    kept: KeptImages | None = None

    @property
    def usable(self) -> tuple[DatasetImage, ...]:
        """The images that can be used for training."""
        return tuple(image for image in self.images if not image.flaws)

    def digest(self) -> str:
        """Hex digest of paths, contents, captions and repeats, which determine the order and content of steps."""
        digest = hashlib.sha256()
        for image in self.usable:
            # Names need not be UTF-8. Except on Windows, this restores the bytes of the file system.
            name = os.fsencode(image.path.relative_to(self.folder).as_posix())
            texts = (image.sha256, image.caption or "", str(image.repeats))
            digest.update(b"\0".join([name, *(text.encode() for text in texts)]))
        return digest.hexdigest()


def read_dataset(data_folder: str, *, kept: KeptImages | None = None) -> DatasetReport:
    """List a folder, read every file in it once, and decode every image once.

    Images are decoded because a truncated image is only noticed then.

    Args:
        data_folder: as the user gave it.
        kept: receives the decoded images.
    """
    folder, problem = find_folder(data_folder)
    if problem:
        return DatasetReport(folder, problems=(Problem("data_folder", "error", *problem),))
    contents = list_folder(folder)
    images: list[DatasetImage] = []
    copies: list[tuple[DatasetImage, DatasetImage]] = []
    seen: dict[str, DatasetImage] = {}
    for entry in contents.images:
        read, pixels = _read(scan_entry(entry, folder), kept)
        images.append(read)
        if pixels and seen.setdefault(pixels, read) is not read:
            copies.append((seen[pixels], read))
    return DatasetReport(
        folder=folder,
        images=tuple(images),
        copies=tuple(copies),
        unused=dict(contents.unused),
        problems=tuple(_closed(path, reason, folder) for path, reason in contents.closed),
        kept=kept,
    )


def _closed(path: Path, reason: str, folder: Path) -> Problem:
    text = f"The folder {shown_path(path, folder)} cannot be read ({reason})."
    hint = "Check its permissions" + ("." if path == folder else ", or move it out of the data folder.")
    return Problem("data_folder", "error", text, hint)


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
