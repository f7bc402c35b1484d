"""Masks: how much each part of an image counts, from a file of its own or from the image's transparency."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageStat

from lib_pivotal.core.data.background import alpha_of, on_background
from lib_pivotal.core.data.bucket import bucket_for, crop
from lib_pivotal.core.data.image_file import UnusableImage, read_bytes, read_image

__all__ = ["CELL", "Mask", "MaskReader"]

CELL = 8
"""Pixels per latent cell, the same in all model families, see ``VAE.scale_factor``."""

_COLORED_FROM = 24
"""Levels between two channels; JPEG makes a gray image differ by less."""

_MAX_STRETCH = 1.01
"""Above this ratio of the aspect ratios of mask and image, the mask is probably that of another image."""


@dataclass(frozen=True)
class Mask:
    """How much the parts of an image count, fitted to its bucket.

    Attributes:
        cells: weight of each latent cell, ≥ 0, float32, shape ``(h, w)``.
        sha256: hex hash of the mask's file; ``"alpha"`` if the mask is the image's transparency.
        is_stretched: whether its aspect ratio differs from the image's.
        is_colored: whether its file has colors.
        lost: share of what counts, or of what does not, that is too fine for latent cells; 0 … 1.
    """

    cells: np.ndarray = field(compare=False)
    sha256: str
    is_stretched: bool = False
    is_colored: bool = False
    lost: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether no part counts."""
        return not self.cells.any()

    @property
    def is_even(self) -> bool:
        """Whether all parts count the same."""
        return float(self.cells.min()) == float(self.cells.max())


class MaskReader:
    """Reads masks and fits them to the buckets of their images.

    Args:
        resolution: side of the square bucket, px.
        scale: ``"linear"`` or ``"hcp"``: how gray levels of files become weights.
        inverted: whether black parts count instead of white ones.
    """

    def __init__(self, resolution: int, *, scale: str, inverted: bool) -> None:
        self._resolution = resolution
        self._inverted = inverted
        self._is_hcp = scale == "hcp"

    def read(self, path: Path, size: tuple[int, int], channel: Literal["alpha", "gray", "red"]) -> Mask:
        """The mask in a file.

        Args:
            path: an image file; for ``"alpha"`` the image itself.
            size: width and height of the upright image that it belongs to, px.
            channel: what counts: transparency, brightness or the red channel, which is brightness with the scale "hcp".

        Raises:
            UnusableImage: the file cannot be read or decoded.
        """
        data = read_bytes(path)
        image = read_image(data)
        if channel == "alpha":
            alpha = alpha_of(image) or Image.new("L", image.size, 255)
            return self._fitted(alpha, size, _linear_weights())
        gray, is_colored = _gray(image, is_red=channel == "red" and not self._is_hcp)
        mask = self._fitted(gray, size, _hcp_weights() if self._is_hcp else _linear_weights())
        return replace(
            mask,
            sha256=hashlib.sha256(data).hexdigest(),
            is_colored=is_colored,
            is_stretched=_stretch(gray.size, size) > _MAX_STRETCH,
        )

    def _fitted(self, gray: Image.Image, size: tuple[int, int], weights: np.ndarray) -> Mask:
        """A mask in mode L, scaled, cropped and averaged like its image of ``size``."""
        bucket = bucket_for(*size, self._resolution)
        cut = crop(*size, bucket)
        x, y = gray.width / cut.width, gray.height / cut.height
        box = (cut.left * x, cut.top * y, (cut.left + bucket[0]) * x, (cut.top + bucket[1]) * y)
        box = (*box[:2], min(box[2], gray.width), min(box[3], gray.height))
        levels = np.asarray(gray.resize(bucket, Image.Resampling.BOX, box=box))
        pixels = (weights[::-1] if self._inverted else weights)[levels]
        cells = _cell_means(pixels)
        return Mask(cells, "alpha", lost=_lost(_cell_means((pixels >= 0.5).astype(np.float32)), cells))


def _gray(image: Image.Image, *, is_red: bool) -> tuple[Image.Image, bool]:
    """A mask's file in mode L, and whether it was colored."""
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return image.convert("L"), False
    try:
        # What is transparent in a mask does not count.
        image = on_background(image, "black")
    except MemoryError as error:
        raise UnusableImage("needs more memory than is available", "Scale it down.") from error
    except ValueError as error:
        raise UnusableImage(f"has colors that cannot be used ({error})", "Save it as PNG in gray.") from error
    red, green, blue = image.split()
    differences = [ImageStat.Stat(ImageChops.difference(red, other)).extrema[0][1] for other in (green, blue)]
    is_colored = max(differences) >= _COLORED_FROM
    return (red if is_red or not any(differences) else image.convert("L")), is_colored


def _stretch(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Ratio of two aspect ratios, ≥ 1."""
    a, b = one[0] * other[1], other[0] * one[1]
    return max(a, b) / min(a, b)


def _linear_weights() -> np.ndarray:
    """Weight of each gray level, float32, shape ``(256,)``: black 0, white 1."""
    return (np.arange(256) / 255).astype(np.float32)


def _hcp_weights() -> np.ndarray:
    """Weight of each gray level, float32, shape ``(256,)``: 0 … 127 is 0 … 1, 128 … 255 is 1 … 5.

    Source: the masks of HCP-Diffusion, https://github.com/IrisRainbowNeko/HCP-Diffusion, ``hcpdiff/data``
    """
    levels = np.arange(256)
    return np.where(levels < 128, levels / 127, 1 + (levels - 128) * (4 / 127)).astype(np.float32)


def _cell_means(pixels: np.ndarray) -> np.ndarray:
    """Mean of each latent cell, float32, shape ``(h, w)``, of float32 pixels ``(8 h, 8 w)``; constants stay exact."""
    rows = pixels.reshape(pixels.shape[0], -1, CELL).sum(axis=2, dtype=np.float32)
    means: np.ndarray = rows.reshape(-1, CELL, rows.shape[1]).sum(axis=1, dtype=np.float32) / CELL**2
    return means


def _lost(counted: np.ndarray, cells: np.ndarray) -> float:
    """Share of the counted or of the uncounted pixels, whichever is larger, that are on the other side in their cell.

    Args:
        counted: share of the counted pixels of each cell, shape ``(h, w)``.
        cells: weights of the cells, shape ``(h, w)``.
    """
    kept = cells >= 0.5
    lost = float(counted[~kept].sum()), float((1 - counted)[kept].sum())
    return max(lost[0] / max(float(counted.sum()), 1e-6), lost[1] / max(float((1 - counted).sum()), 1e-6))
