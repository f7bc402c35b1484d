"""Small copies of images for lists of many, stored in the cache folder."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.data.background import on_background
from lib_pivotal.core.data.image_file import UnusableImage, read_bytes, read_image
from lib_pivotal.core.data.in_order import in_order
from lib_pivotal.core.data.old_files import DAY_S, remove_old
from lib_pivotal.core.data.scan import DatasetImage

if TYPE_CHECKING:
    from lib_pivotal.core.data.mask import Mask

__all__ = ["THUMBNAIL_SIDE", "Thumbnails", "mask_overlay", "small_copy"]

logger = logging.getLogger("pivotal.images")

THUMBNAIL_SIDE = 128
"""Longer side in px."""
_QUALITY = 80
_MAX_DECODING = 64_000_000
"""Maximum number of pixels of the images that are decoded at the same time."""
_OVERLAY_COLOR = (220, 30, 30)
_OVERLAY_ALPHA = 170
_KEPT = 5000
"""Maximum number of thumbnails in memory, at about 5 KB each."""
_STORED = 20_000
"""Maximum number of thumbnails in the cache folder, not counting those used within a day."""


class Thumbnails:
    """Makes thumbnails once per image file.

    Args:
        cache: the cache folder; None keeps them only in memory.
        background: what transparent parts show, see :data:`lib_pivotal.core.data.background.BACKGROUNDS`.
    """

    def __init__(self, cache: Path | None, background: str) -> None:
        self._folder = cache / "thumbnails" if cache is not None else None
        self._background = background
        self._kept: dict[str, bytes] = {}
        self._has_cleaned = False

    def of(self, images: Sequence[DatasetImage]) -> list[bytes]:
        """A JPEG for each image; empty for images that cannot be read.

        Args:
            images: images whose files have been read; the others have none.
        """
        return list(in_order(self._find, images, self._cost, _MAX_DECODING))

    def _find(self, image: DatasetImage) -> bytes:
        key = self._key(image)
        if not key:
            return b""
        data = self._kept.get(key) or self._stored(key)
        if not data:
            data = small_copy(image.path, THUMBNAIL_SIDE, self._background)
            self._store(key, data)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[key] = data
        return data

    def _key(self, image: DatasetImage) -> str:
        if not image.sha256:
            return ""
        return hashlib.sha256(f"{image.sha256} {self._background} {THUMBNAIL_SIDE}".encode()).hexdigest()

    def _cost(self, image: DatasetImage) -> int:
        return 0 if self._key(image) in self._kept else image.width * image.height

    def _stored(self, key: str) -> bytes:
        if self._folder is None:
            return b""
        path = self._folder / f"{key}.jpg"
        try:
            data = path.read_bytes()
            if time.time() - path.stat().st_mtime > DAY_S / 2:
                # The time of the last use decides which ones are removed.
                os.utime(path)
        except OSError:
            return b""
        return data

    def _store(self, key: str, data: bytes) -> None:
        """Write a thumbnail; a failure only costs time later."""
        if self._folder is None or not data:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / f"{key}.jpg", keep=False) as partial:
                partial.write_bytes(data)
        except OSError as error:
            logger.warning("A thumbnail cannot be stored: %s", error)
        if not self._has_cleaned:
            self._has_cleaned = True
            remove_old(self._folder, "*.jpg", keep=_STORED, days=1)


def small_copy(path: Path, side: int, background: str) -> bytes:
    """A JPEG of an image; empty if it cannot be read.

    Args:
        path: the image file.
        side: longer side in px, which smaller images do not reach.
        background: what transparent parts show.
    """
    try:
        image = read_image(read_bytes(path))
        # Coarsely first, because the rest takes time by pixel.
        image.thumbnail((side * 2, side * 2), Image.Resampling.BOX)
        image = on_background(image, background)
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    except (UnusableImage, MemoryError, ValueError):
        return b""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def mask_overlay(mask: Mask) -> bytes:
    """A PNG to lay over the crop of an image, with a pixel per latent cell: red where the mask leaves something out.

    Args:
        mask: of the image.
    """
    left_out = Image.fromarray(((1 - mask.cells.clip(0, 1)) * _OVERLAY_ALPHA).astype("uint8"))
    overlay = Image.new("RGBA", left_out.size, _OVERLAY_COLOR)
    overlay.putalpha(left_out)
    file = io.BytesIO()
    overlay.save(file, "PNG")
    return file.getvalue()
