"""Aspect-ratio buckets: sizes of about the same area that images are scaled and cropped to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Crop", "bucket_for", "bucket_sizes", "crop"]

_MAX_ASPECT_RATIO = 4
"""Maximum aspect ratio of a bucket; longer images are cropped at their ends."""


@dataclass(frozen=True)
class Crop:
    """How an image is fitted to its bucket: scale to ``(width, height)``, then crop at ``(left, top)``; all in px."""

    width: int
    height: int
    left: int
    top: int


@lru_cache(maxsize=16)
def bucket_sizes(resolution: int, step: int = 64) -> tuple[tuple[int, int], ...]:
    """All bucket sizes (width, height) whose sides are multiples of ``step`` and whose area is at most ``resolution``².

    For each width, the largest height that fits, with aspect ratios up to 4:1; the square is always included.

    Args:
        resolution: side length of the square bucket in px.
        step: sides are multiples of this many px.
    """
    area = max(resolution * resolution, step * step)
    square = max(resolution // step, 1) * step
    sizes = {(square, square)}
    for width in range(step, _MAX_ASPECT_RATIO * resolution + step, step):
        height = area // width // step * step
        if height and max(width, height) <= _MAX_ASPECT_RATIO * min(width, height):
            sizes.add((width, height))
            sizes.add((height, width))
    return tuple(sorted(sizes))


def bucket_for(width: int, height: int, resolution: int, step: int = 64) -> tuple[int, int]:
    """The bucket whose aspect ratio is closest to the image's; the larger one if two are equally close.

    Args:
        width: image width in px, > 0.
        height: image height in px, > 0.
        resolution: side length of the square bucket in px.
        step: px.

    Returns:
        (width, height) in px.
    """

    def misfit(size: tuple[int, int]) -> tuple[float, int]:
        # Ratio of the two aspect ratios, at least 1; computed from integers, so rounding cannot decide.
        a, b = width * size[1], height * size[0]
        return (max(a, b) / min(a, b), -size[0] * size[1])

    return min(bucket_sizes(resolution, step), key=misfit)


def crop(width: int, height: int, bucket: tuple[int, int]) -> Crop:
    """Scale the image to cover the bucket, then crop the center; small images are enlarged.

    Args:
        width: image width in px.
        height: image height in px.
        bucket: (width, height) in px.
    """
    to_width, to_height = bucket
    if width * to_height > height * to_width:  # wider than the bucket
        scaled = (max(to_width, round(width * to_height / height)), to_height)
    else:
        scaled = (to_width, max(to_height, round(height * to_width / width)))
    return Crop(*scaled, (scaled[0] - to_width) // 2, (scaled[1] - to_height) // 2)
