"""Fits images to their buckets: scaled, cropped, and without transparent parts."""

from __future__ import annotations

import threading

from PIL import Image

from lib_pivotal.core.data.background import on_background
from lib_pivotal.core.data.bucket import bucket_for, crop
from lib_pivotal.core.data.image_file import UnusableImage

__all__ = ["KeptImages", "fit"]

_KEPT_BYTES = 256 * 2**20
"""Bytes; about 250 images of 512 × 512 px. Further images of a larger dataset are decoded twice."""

_MAX_SCALED = 16
"""An image that would be more than this many times as large as its bucket after scaling is cropped first."""


def fit(image: Image.Image, bucket: tuple[int, int], background: str = "white") -> Image.Image:
    """The image scaled and cropped to its bucket, in mode RGB.

    Args:
        image: an upright image.
        bucket: (width, height) in px.
        background: what transparent parts show, see :data:`lib_pivotal.core.data.background.BACKGROUNDS`.

    Raises:
        UnusableImage: it cannot be converted to RGB, or there is not enough memory.
    """
    try:
        return _cut(on_background(image, background), bucket)
    except MemoryError as error:
        raise UnusableImage("needs more memory than is available", "Scale it down.") from error
    except ValueError as error:
        raise UnusableImage(f"has colors that cannot be used ({error})", "Save it as PNG in RGB.") from error


def _cut(image: Image.Image, bucket: tuple[int, int]) -> Image.Image:
    cut = crop(image.width, image.height, bucket)
    left, top, right, bottom = cut.left, cut.top, cut.left + bucket[0], cut.top + bucket[1]
    if cut.width * cut.height <= _MAX_SCALED * bucket[0] * bucket[1]:
        return image.resize((cut.width, cut.height), Image.Resampling.LANCZOS).crop((left, top, right, bottom))
    # A long thin image would take gigabytes if it were scaled as a whole.
    x, y = image.width / cut.width, image.height / cut.height
    shown = (left * x, top * y, min(right * x, image.width), min(bottom * y, image.height))
    return image.resize(bucket, Image.Resampling.LANCZOS, box=shown)


class KeptImages:
    """Images fitted to their buckets, kept by the check so that encoding need not read and decode them again.

    Args:
        resolution: side of the square bucket, px.
        limit: maximum number of bytes of pixels to keep.
        background: see :func:`fit`.
    """

    def __init__(self, resolution: int, limit: int = _KEPT_BYTES, background: str = "white") -> None:
        self._resolution = resolution
        self._background = background
        self._room = limit
        self._images: dict[str, Image.Image | None] = {}
        self._lock = threading.Lock()

    def keep(self, sha256: str, image: Image.Image) -> None:
        """Fit an image to its bucket and keep it if there is room; may be called from several threads.

        Args:
            sha256: hash of its file.
            image: the decoded, upright image.

        Raises:
            UnusableImage: see :func:`fit`.
        """
        bucket = bucket_for(image.width, image.height, self._resolution)
        # Pillow uses four bytes per pixel in mode RGB.
        size = 4 * bucket[0] * bucket[1]
        with self._lock:
            if size > self._room or sha256 in self._images:
                return
            self._room -= size
            self._images[sha256] = None
        self._images[sha256] = fit(image, bucket, self._background)

    def take(self, sha256: str, bucket: tuple[int, int]) -> Image.Image | None:
        """Return the image kept for a file and forget it; None if it was not kept.

        Args:
            sha256: hash of the file.
            bucket: (width, height) in px.
        """
        image = self._images.pop(sha256, None)
        return image if image is not None and image.size == bucket else None

    def clear(self) -> None:
        """Free the memory."""
        self._images.clear()
