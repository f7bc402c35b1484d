"""Writes PNG images with texts, such as the one that the webui reads settings from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import PngImagePlugin

from lib_pivotal.core.atomic_file import replacing

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["write_png"]


def write_png(path: Path, image: Image.Image, texts: Mapping[str, str]) -> None:
    """Write an image, completely or not at all; an existing file is replaced.

    Args:
        path: the file.
        image: to write.
        texts: key → text, for example ``parameters`` → infotext.

    Raises:
        OSError: it cannot be written.
    """
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    with replacing(path, keep=False) as partial:
        image.save(partial, "PNG", pnginfo=info)
