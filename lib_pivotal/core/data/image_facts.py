"""What is known about an image once its whole file has been read and decoded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageStat

from lib_pivotal.core.data.background import alpha_of
from lib_pivotal.core.data.bucket_image import KeptImages, fit
from lib_pivotal.core.data.image_file import notes_of, read_bytes, read_image

__all__ = ["ImageFacts", "read_facts"]

_STRIP_PIXELS = 2**20
"""Number of pixels copied at a time to compare images."""


class ImageFacts(NamedTuple):
    """Facts about a decoded image.

    Attributes:
        width: width in px of the upright image.
        height: height in px, likewise.
        sha256: hex hash of the file.
        pixels: hex digest that is equal for images that look the same, whatever their file format.
        notes: what should be said about it, see :func:`lib_pivotal.core.data.image_file.notes_of`.
        transparency: mean transparency, 0 … 1; 0 only if nothing is transparent.
    """

    width: int
    height: int
    sha256: str
    pixels: str
    notes: tuple[str, ...] = ()
    transparency: float = 0.0

    @property
    def is_invisible(self) -> bool:
        """Whether the image is fully transparent."""
        return self.transparency == 1.0


def read_facts(path: Path, kept: KeptImages | None) -> ImageFacts:
    """Read and decode an image file.

    Args:
        path: the file.
        kept: receives the decoded image.

    Raises:
        UnusableImage: it cannot be used.
    """
    data = read_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    notes = notes_of(data)
    decoded = read_image(data)
    if kept is not None:
        kept.keep(sha256, decoded)
    # Any part of it shows whether it can be converted to RGB.
    fit(decoded.crop((0, 0, 1, 1)), (1, 1))
    alpha = alpha_of(decoded)
    transparency = 1.0 - ImageStat.Stat(alpha).mean[0] / 255 if alpha is not None else 0.0
    return ImageFacts(decoded.width, decoded.height, sha256, _pixel_digest(decoded), notes, transparency)


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
