"""Aspect-ratio buckets: sizes of about the same area that images are scaled and cropped to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Crop", "bucket_for", "bucket_sizes", "crop"]

_WIDEST = 4
"""Buckets go up to 4:1; longer images lose their ends."""


@dataclass(frozen=True)
class Crop:
    """How an image becomes its bucket: scale to ``(width, height)``, then cut at ``(left, top)``; all px."""

    width: int
    height: int
    left: int
    top: int


@lru_cache(maxsize=16)
def bucket_sizes(resolution: int, step: int = 64) -> tuple[tuple[int, int], ...]:
    """All (width, height) with sides that are multiples of ``step`` and at most ``resolution``² area.

    For each width the tallest height that fits, none longer than 4:1; and always a square.

    Args:
        resolution: side of the square in px.
        step: sides are multiples of this many px.
    """
    area = max(resolution * resolution, step * step)
    square = max(resolution // step, 1) * step
    sizes = {(square, square)}
    for width in range(step, _WIDEST * resolution + step, step):
        height = area // width // step * step
        if height and max(width, height) <= _WIDEST * min(width, height):
            sizes.add((width, height))
            sizes.add((height, width))
    return tuple(sorted(sizes))


def bucket_for(width: int, height: int, resolution: int, step: int = 64) -> tuple[int, int]:
    """The bucket whose shape is closest to the image's; of equal ones the larger.

    Args:
        width: of the image, px, > 0.
        height: of the image, px, > 0.
        resolution: side of the square bucket, px.
        step: px.

    Returns:
        (width, height) in px.
    """

    def misfit(size: tuple[int, int]) -> tuple[float, int]:
        # Ratio of the two aspect ratios, 1 or more, from integers so that no rounding decides.
        a, b = width * size[1], height * size[0]
        return (max(a, b) / min(a, b), -size[0] * size[1])

    return min(bucket_sizes(resolution, step), key=misfit)


def crop(width: int, height: int, bucket: tuple[int, int]) -> Crop:
    """Scale to cover the bucket, then cut the middle; small images are enlarged.

    Args:
        width: of the image, px.
        height: of the image, px.
        bucket: (width, height) in px.
    """
    to_width, to_height = bucket
    if width * to_height > height * to_width:  # wider than the bucket
        scaled = (max(to_width, round(width * to_height / height)), to_height)
    else:
        scaled = (to_width, max(to_height, round(height * to_width / width)))
    return Crop(*scaled, (scaled[0] - to_width) // 2, (scaled[1] - to_height) // 2)
