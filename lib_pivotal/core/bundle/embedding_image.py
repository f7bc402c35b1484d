"""Reads embeddings stored in images, as the webui's Textual Inversion tab saves them.

Host: modules/textual_inversion/image_embedding.py and textual_inversion.py, ``load_from_file``, A1111 1.6.1-1.10.1: the
    embedding is base64 of JSON in the PNG text ``sd-ti-embedding``, and also zlib-compressed JSON in the lower four
    bits of two strips at the sides of the image, which every lossless format keeps. Tensors are nested lists under
    ``TORCHTENSOR``.
"""

from __future__ import annotations

import base64
import json
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from lib_pivotal.core.bundle.values import Rejected

__all__ = ["read_embedding_image"]

_TEXT = "sd-ti-embedding"
_TENSOR = "TORCHTENSOR"
_MAX_PIXELS = 2**23
_MAX_JSON_BYTES = 8 * 2**20
"""Maximum size in bytes; 75 vectors of the widest encoder take about 2 MiB."""
_FACTOR, _STEP = 1664525, 1013904223
"""Generator of the numbers that the strips are XORed with: x → _FACTOR · x + _STEP modulo 2³², then modulo 255."""


def read_embedding_image(path: Path) -> dict[str, Any]:
    """Read what the webui stored in an image: dictionaries, strings, numbers and tensors, as in its ``.pt`` files.

    No code in the image is run, and memory and time are bounded.

    Raises:
        Rejected: it contains no usable embedding; the message says why.
        OSError: it cannot be opened.
    """
    with warnings.catch_warnings():
        # Warnings about very large images, which are rejected below.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                raw = _from_text(image)
                if raw is None:
                    raw = _from_pixels(image)
        except UnidentifiedImageError as error:
            raise Rejected("it cannot be read as an image", "Convert it to PNG in an image editor.") from error
        except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise Rejected(f"the image cannot be read ({error})") from error
    return _parse(raw)


def _from_text(image: Image.Image) -> bytes | None:
    text = image.info.get(_TEXT)
    if not isinstance(text, (str, bytes)):
        return None
    if len(text) > 2 * _MAX_JSON_BYTES:
        raise Rejected("the embedding in the image is too large to be one")
    try:
        return base64.b64decode(text)
    except ValueError as error:
        raise Rejected("the embedding in the image is damaged") from error


def _from_pixels(image: Image.Image) -> bytes:
    width, height = image.size
    if width * height > _MAX_PIXELS:
        raise Rejected(f"an image of {width} × {height} pixels is too large to contain an embedding")
    pixels = _without_border(np.asarray(image.convert("RGB"))) & 0x0F
    dark = np.flatnonzero(pixels.sum(axis=(0, 2)) == 0)
    if len(dark) < 2:
        raise Rejected("there is no embedding in the image", "Choose the original file that the webui saved.")
    lower, upper = pixels[:, : dark[0]], pixels[:, dark[-1] + 1 :]
    if lower.shape != upper.shape or not lower.size:
        raise Rejected("there is no embedding in the image", "Choose the original file that the webui saved.")
    mixed = lower.reshape(-1) | (upper.reshape(-1) << 4)
    mask = _mixing(mixed.size)
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress((mixed ^ (mask | mask << 4)).tobytes(), _MAX_JSON_BYTES)
    except zlib.error as error:
        raise Rejected(
            "there is no embedding in the image", "It may have been saved again with lossy compression."
        ) from error
    if not unpacker.eof:
        raise Rejected("the embedding in the image is incomplete")
    return raw


def _without_border(pixels: Any) -> Any:
    """The image without its black border; empty if all of it is black."""
    bright = (pixels > 0).all(axis=2)
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if not len(rows):
        return pixels[:0, :0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _mixing(count: int) -> Any:
    """The lower four bits of ``count`` generated numbers, shape ``(count,)``."""
    states = np.array([_STEP % 2**32], dtype=np.uint32)
    factor, step = _FACTOR, _STEP
    while len(states) < count:
        # The length doubles each time: jumping ahead by any number of steps is again one linear step.
        states = np.concatenate([states, states * np.uint32(factor) + np.uint32(step)])
        factor, step = factor * factor % 2**32, (factor * step + step) % 2**32
    return (states[:count] % 255).astype(np.uint8) & 0x0F


def _parse(raw: bytes) -> dict[str, Any]:
    if len(raw) > _MAX_JSON_BYTES:
        raise Rejected("the embedding in the image is too large to be one")
    try:
        values = json.loads(raw, parse_int=_short_integer)
        if isinstance(values, dict):
            return {str(key): _restored(value) for key, value in values.items()}
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Rejected("the embedding in the image is damaged") from error
    raise Rejected("the embedding in the image is damaged")


def _short_integer(digits: str) -> int:
    if len(digits) > 20:
        message = "a number is too long"
        raise ValueError(message)
    return int(digits)


def _restored(value: Any) -> Any:
    """A value with its tensors, which may be one or two levels deep."""
    if not isinstance(value, Mapping):
        return value
    if _TENSOR in value:
        return torch.from_numpy(np.array(value[_TENSOR], dtype=np.float32))
    return {str(key): _restored(item) if isinstance(item, Mapping) else item for key, item in value.items()}
