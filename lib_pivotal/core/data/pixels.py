"""Loads an image file as a tensor fitted to its bucket."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib_pivotal.core.data.bucket_image import fit
from lib_pivotal.core.data.image_file import UnusableImage, read_bytes, read_image
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.errors import DatasetError

__all__ = ["load_pixels", "to_tensor"]


def load_pixels(path: Path, bucket: tuple[int, int], *, mirrored: bool) -> torch.Tensor:
    """Load an image upright, scaled and cropped to its bucket, with transparent parts on white.

    Args:
        path: the file.
        bucket: (width, height) in px.
        mirrored: whether to swap left and right.

    Returns:
        fp32, shape ``(3, height, width)``, -1 … 1.

    Raises:
        DatasetError: the file cannot be decoded.
    """
    try:
        pixels = to_tensor(fit(read_image(read_bytes(path)), bucket))
    except UnusableImage as error:
        raise DatasetError(f"The image {shown_path(path)} {error.reason}.", hint=error.hint) from error
    return pixels.flip(2) if mirrored else pixels


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Convert an image of mode RGB to fp32, shape ``(3, height, width)``, -1 … 1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1.0
