"""Reads image files: supported formats, size limits and orientation."""

from __future__ import annotations

import functools
import importlib
import io
import logging
import os
import threading
import warnings
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile

from lib_pivotal.core.data.color_profile import has_other_profile, to_srgb
from lib_pivotal.core.data.png_text import without_text

__all__ = [
    "MAX_PIXELS",
    "UnusableImage",
    "image_size",
    "notes_of",
    "read_bytes",
    "read_image",
    "readable_suffixes",
    "upright",
    "upright_size",
]

logger = logging.getLogger("pivotal.images")

MAX_PIXELS = 200_000_000
"""Maximum number of pixels; decoding takes up to four bytes per pixel."""

_MAX_BYTES = 2**29
"""Maximum size of an image file in bytes."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
_ADD_ONS = {"AVIF": "pillow_avif", "HEIF": "pillow_heif"}
"""Format → package that adds it to a Pillow that lacks it, if the host has that package."""
_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".apng", ".heic",
    ".heif",
)  # fmt: skip

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
    """Lower-case suffixes of supported files; WebP, AVIF and HEIC only if this Pillow can decode them."""
    _load_add_ons()
    registered = Image.registered_extensions()
    return tuple(suffix for suffix in _SUFFIXES if registered.get(suffix) in _FORMATS)


@functools.cache
def _load_add_ons() -> None:
    """Make the formats of installed add-ons known to Pillow; each registers itself when it is imported or asked to."""
    Image.init()
    for name, package in _ADD_ONS.items():
        if name in Image.OPEN:
            continue
        try:
            module = importlib.import_module(package)
            if name == "HEIF":
                module.register_heif_opener()
        except Exception:
            # Not installed, or built for another system: such files are reported as unreadable.
            logger.debug("%s cannot be used", package, exc_info=True)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in px of the upright image, read from the file's header; nothing is decoded.

    If a PNG stores its orientation after the pixels, only :func:`read_image` sees it.

    Raises:
        UnusableImage: it is not a readable image, or it is too large.
    """
    try:
        with path.open("rb") as file, _silence:
            try:
                return upright_size(_opened(file))
            except UnusableImage:
                file.seek(0)
                data = file.read(_MAX_BYTES)
                shorter = without_text(data)
                if len(shorter) == len(data):
                    raise
                return upright_size(_opened(io.BytesIO(shorter)))
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
    """Decode an image (the first frame of an animation), make it upright and convert its colors to sRGB.

    Args:
        data: contents of the file.

    Raises:
        UnusableImage: it is damaged, too large, or not a readable image.
    """
    with _silence:
        image = _opened(io.BytesIO(without_text(data)))
        try:
            image.load()
            image = to_srgb(upright(image))
        except Exception as error:
            # Decoders raise different errors for damaged files, depending on format and version.
            raise _damaged(error) from error
    if image.mode == "F":
        raise UnusableImage("has floating-point pixels of unknown range", "Save it as PNG.")
    return image


def notes_of(data: bytes) -> tuple[str, ...]:
    """What is special about an image file: ``"animation"``, ``"cmyk"`` or ``"profile"`` (of colors other than sRGB).

    Nothing is decoded.

    Args:
        data: contents of the file.

    Raises:
        UnusableImage: it is not a readable image, or it is too large.
    """
    with _silence:
        image = _opened(io.BytesIO(without_text(data)))
        found = {
            "animation": getattr(image, "is_animated", False),
            "cmyk": image.mode == "CMYK",
            "profile": has_other_profile(image),
        }
    return tuple(name for name, holds in found.items() if holds)


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


class _Silence:
    """Context in which Pillow gives no warnings, for example about damaged EXIF data: the pixels are intact.

    Python's filters for warnings belong to the whole process, so threads that read images share one change of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._users += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._filters.__exit__(None, None, None)


_silence = _Silence()


def _opened(file: IO[bytes]) -> Image.Image:
    """Open an image and read its header.

    Like ``Image.open``, but only for the formats in :data:`_FORMATS` (others may start programs), and without
    its pixel limit, which prints a warning and depends on the host's settings; ours is :data:`MAX_PIXELS`.
    """
    _load_add_ons()
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
