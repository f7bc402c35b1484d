"""From a picture file to the pixels of its bucket."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from lib_pivotal.core.data.bucket import crop
from lib_pivotal.core.data.picture_file import DAMAGED, upright
from lib_pivotal.core.errors import DatasetError

__all__ = ["load_pixels"]


def load_pixels(path: Path, bucket: tuple[int, int], *, mirrored: bool) -> torch.Tensor:
    """The picture scaled and cropped to its bucket, upright, transparent parts on white.

    Args:
        path: the file.
        bucket: (width, height) in px.
        mirrored: swap left and right.

    Returns:
        fp32, shape ``(3, height, width)``, -1 … 1.

    Raises:
        DatasetError: the file cannot be decoded.
    """
    try:
        with Image.open(path) as opened:
            image = _on_white(upright(opened))
    except DAMAGED as error:
        raise DatasetError(f"The picture {path.name} is damaged ({error}).", hint="Repair or remove it.") from error
    cut = crop(image.width, image.height, bucket)
    box = (cut.left, cut.top, cut.left + bucket[0], cut.top + bucket[1])
    image = image.resize((cut.width, cut.height), Image.Resampling.LANCZOS).crop(box)
    if mirrored:
        image = ImageOps.mirror(image)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1.0


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257.0).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB")
