"""Reads image files: supported formats, size limits and orientation."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile

__all__ = [
    "MAX_PIXELS",
    "UnusableImage",
    "image_size",
    "read_bytes",
    "read_image",
    "readable_suffixes",
    "upright",
    "upright_size",
]

MAX_PIXELS = 120_000_000
"""Maximum number of pixels; decoding takes four bytes per pixel, and half a gigabyte is enough for one file."""

_MAX_BYTES = 2**29
"""Maximum size of an image file in bytes."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".apng")

_CONVERT = "Convert it to PNG or JPEG."
_FOREIGN = (
    (
        0,
        b"version https://git-lfs",
        "is a Git LFS pointer instead of the image",
        "Download the image with git lfs pull.",
    ),
    (0, b"<", "is a web page or an SVG drawing", _CONVERT),
    (4, b"ftyphei", "is a HEIC image", _CONVERT),
    (4, b"ftyphev", "is a HEIC image", _CONVERT),
    (4, b"ftypmif1", "is a HEIC image", _CONVERT),
    (4, b"ftypavif", "is an AVIF image, which this version of Pillow cannot read", _CONVERT),
    (0, b"\xff\x0a", "is a JPEG XL image", _CONVERT),
    (4, b"JXL ", "is a JPEG XL image", _CONVERT),
    (0, b"8BPS", "is a Photoshop file", _CONVERT),
)
"""Contents that often have an image's name but cannot be read: offset, bytes, what the file is, what to do."""

_ORIENTATION = 0x0112
_WIDTH, _HEIGHT = 0x0100, 0x0101

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → operation that makes the image upright.

Source: EXIF 2.32, tag 0x0112.
"""


class UnusableImage(Exception):
    """A file cannot be used as an image.

    Args:
        reason: continues the sentence "The image a.png …".
        hint: what to do.
    """

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def readable_suffixes() -> tuple[str, ...]:
    """Lower-case suffixes of supported files; WebP and AVIF only if this Pillow can decode them."""
    registered = Image.registered_extensions()
    return tuple(suffix for suffix in _SUFFIXES if registered.get(suffix) in _FORMATS)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in px of the upright image, read from the file's header; nothing is decoded.

    If a PNG stores its orientation after the pixels, only :func:`read_image` sees it.

    Raises:
        UnusableImage: it is not a readable image, or it is too large.
    """
    try:
        with path.open("rb") as file, _silent():
            return upright_size(_opened(file))
    except OSError as error:
        raise _unreadable(error) from error


def read_bytes(path: Path) -> bytes:
    """Read the whole file.

    Raises:
        UnusableImage: it cannot be read, or it is too large.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # No more than its size, because reading allocates as much memory as requested.
            data = file.read(size) if size <= _MAX_BYTES else b""
    except OSError as error:
        raise _unreadable(error) from error
    if size > _MAX_BYTES:
        raise UnusableImage(f"is larger than {_MAX_BYTES >> 20} MB", "Scale it down, or save it as PNG.")
    return data


def read_image(data: bytes) -> Image.Image:
    """Decode an image (the first frame of an animation) and make it upright.

    Args:
        data: contents of the file.

    Raises:
        UnusableImage: it is damaged, too large, or not a readable image.
    """
    with _silent():
        image = _opened(io.BytesIO(data))
        try:
            image.load()
            image = upright(image)
        except Exception as error:
            # Decoders raise different errors for damaged files, depending on format and version.
            raise _damaged(error) from error
    if image.mode == "F":
        raise UnusableImage("has floating-point pixels of unknown range", "Save it as PNG.")
    return image


def upright(image: Image.Image) -> Image.Image:
    """Rotate or mirror the image as its EXIF orientation says.

    Pillow's own ``exif_transpose`` also writes the EXIF data again, which fails if a camera wrote invalid data.
    """
    # Pillow rotates a TIFF while decoding it, and earlier versions leave the tag in place.
    turn = None if image.format == "TIFF" else _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in px of the upright image; nothing is decoded."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    # Before a TIFF is decoded, some versions of Pillow swap its sides and others do not.
    width, height = (tags[_WIDTH], tags[_HEIGHT]) if tags is not None else image.size
    return (height, width) if _orientation(image) >= 5 else (width, height)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress Pillow's warnings, for example about damaged EXIF data, within the context: the pixels are intact."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _opened(file: IO[bytes]) -> Image.Image:
    """Open an image and read its header.

    Like ``Image.open``, but only for the formats in :data:`_FORMATS` (others may start programs), and without
    its pixel limit, which prints a warning and depends on the host's settings; ours is :data:`MAX_PIXELS`.
    """
    Image.init()
    prefix = file.read(64)
    if not prefix:
        raise UnusableImage("is an empty file", "Copy it again, or remove it.")
    for name in _FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accepts = Image.OPEN[name]
        answer = accepts is None or accepts(prefix)
        # A string says what this Pillow lacks to read the file.
        if not answer or isinstance(answer, str):
            continue
        file.seek(0)
        try:
            image: ImageFile.ImageFile = factory(file, "")
        except Exception as error:
            raise _damaged(error) from error
        if image.width * image.height > MAX_PIXELS:
            limit = MAX_PIXELS // 1_000_000
            raise UnusableImage(
                f"has more than {limit} million pixels ({image.width} × {image.height})", "Scale it down."
            )
        return image
    for start, magic, what, hint in _FOREIGN:
        if prefix[start:].startswith(magic):
            raise UnusableImage(what, hint)
    raise UnusableImage("is not an image in a supported format", "Convert it to PNG, or remove it.")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 … 8; 1 (upright) if the file has none or an invalid one."""
    try:
        # PngImageFile.getexif decodes the pixels, because the EXIF data may follow them.
        value = int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:
        # The image itself may still be intact.
        return 1
    return value if value in _TURNS else 1


def _damaged(error: Exception) -> UnusableImage:
    if isinstance(error, MemoryError):
        return UnusableImage("needs more memory than is available", "Scale it down.")
    return UnusableImage(f"is damaged ({error})", "Repair or remove it.")


def _unreadable(error: OSError) -> UnusableImage:
    return UnusableImage(f"cannot be read ({error.strerror or error})", "Check the file and its permissions.")
