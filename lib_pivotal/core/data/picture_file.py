"""How a picture file is meant to be shown, and what Pillow raises when it cannot be read."""

from __future__ import annotations

import struct

from PIL import Image

__all__ = ["DAMAGED", "upright", "upright_size"]

DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
"""What a damaged file may raise, while it is opened or while it is decoded."""

_ORIENTATION = 0x0112

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes it upright.

Source: EXIF 2.32, tag 0x0112.
"""


def upright(image: Image.Image) -> Image.Image:
    """The picture as it is meant to be shown.

    Pillow's own ``exif_transpose`` also writes the EXIF data anew, which fails where a camera wrote odd ones.
    """
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in px as the picture is meant to be shown; nothing is decoded."""
    width, height = image.size
    return (height, width) if _orientation(image) >= 5 else (width, height)


def _orientation(image: Image.Image) -> int:
    """1 … 8; 1, which is upright, where nothing is said that can be understood."""
    try:
        value = int(image.getexif().get(_ORIENTATION, 1))
    except DAMAGED:
        # The picture itself may be well.
        return 1
    return value if value in _TURNS else 1
