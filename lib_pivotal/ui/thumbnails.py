"""Small copies of images inside the page, so that Gradio neither copies nor serves the originals."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from lib_pivotal.ui.escape import escape_html

__all__ = ["show_image"]

_MAX_PIXELS = 64_000_000


def show_image(path: str | None, side: int, text: str) -> str:
    """An ``<img>`` element with a small copy of an image; empty if it cannot be read.

    Args:
        path: the file; None shows nothing.
        side: maximum width and height in px.
        text: for screen readers.
    """
    if not path:
        return ""
    try:
        stat = Path(path).stat()
        source = _small(path, side, stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return f'<img class="pivotal-thumbnail" src="{source}" alt="{escape_html(text)}" loading="lazy">'


@lru_cache(maxsize=500)
def _small(path: str, side: int, _changed: int, _size: int) -> str:
    if not Path(path).is_file():
        message = "not a file"
        raise ValueError(message)
    with Image.open(path) as image:
        if image.width * image.height > _MAX_PIXELS:
            message = "too large"
            raise ValueError(message)
        image.draft("RGB", (side, side))
        small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
