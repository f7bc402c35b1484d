"""Drawing in a square of 1 × 1 with soft edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from PIL import Image, ImageDraw

__all__ = ["Color", "Drawing"]

Color = tuple[int, int, int]
_FACTOR = 2
"""Edges are soft because the image is drawn this many times larger."""

Point = tuple[float, float]


class Drawing:
    """An image. Coordinates, lengths and widths are fractions of its side; the origin is the top left corner.

    Args:
        side: of the finished image in px.
        color: of the background.
    """

    def __init__(self, side: int, color: Color) -> None:
        self._side = side
        self._scale = side * _FACTOR
        self._image = Image.new("RGB", (self._scale, self._scale), color)
        self._draw = ImageDraw.Draw(self._image)

    def gradient(self, top: Color, bottom: Color, until: float = 1.0) -> None:
        """Fill the upper part, down to ``until``, with a vertical gradient."""
        rows = round(until * self._scale)
        for row in range(rows):
            share = row / max(1, rows - 1)
            mixed = tuple(round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
            self._draw.line([(0, row), (self._scale, row)], fill=mixed)

    def ellipse(self, x: float, y: float, across: float, down: float, color: Color) -> None:
        """An ellipse around a center."""
        self._draw.ellipse(self._box(x, y, across, down), fill=color)

    def circle(self, x: float, y: float, radius: float, color: Color) -> None:
        """A circle around a center."""
        self.ellipse(x, y, 2 * radius, 2 * radius, color)

    def box(self, x: float, y: float, across: float, down: float, color: Color, *, corner: float = 0.0) -> None:
        """A rectangle around a center, with rounded corners of a radius."""
        self._draw.rounded_rectangle(self._box(x, y, across, down), corner * self._scale, fill=color)

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """A polygon."""
        self._draw.polygon([(x * self._scale, y * self._scale) for x, y in points], fill=color)

    def line(self, points: Sequence[Point], thickness: float, color: Color) -> None:
        """A line through points with round ends and joints."""
        for start, end in pairwise(points):
            scaled = [(x * self._scale, y * self._scale) for x, y in (start, end)]
            self._draw.line(scaled, fill=color, width=round(thickness * self._scale))
        for x, y in points:
            self.circle(x, y, thickness / 2, color)

    def arc(self, x: float, y: float, radius: float, start: float, end: float, thickness: float, color: Color) -> None:
        """A part of a circle; angles in degrees, clockwise from the right."""
        count = 24
        angles = [math.radians(start + (end - start) * step / count) for step in range(count + 1)]
        self.line([(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles], thickness, color)

    def finish(self) -> Image.Image:
        """The image at its final size."""
        return self._image.resize((self._side, self._side), Image.Resampling.LANCZOS)

    def _box(self, x: float, y: float, across: float, down: float) -> tuple[float, float, float, float]:
        s = self._scale
        return ((x - across / 2) * s, (y - down / 2) * s, (x + across / 2) * s, (y + down / 2) * s)
