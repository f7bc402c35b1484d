"""Drawing on a small canvas, antialiased by drawing four times larger, in two styles."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["COLORS", "INK", "SIDE", "Canvas", "outline"]

SIDE = 64
INK = (8, 8, 12)
"""Color of style B's outlines."""
_FACTOR = 4

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 40, 40),
    "orange": (250, 145, 20),
    "yellow": (250, 225, 50),
    "green": (45, 165, 65),
    "blue": (45, 85, 215),
    "purple": (135, 50, 170),
    "pink": (250, 150, 190),
    "white": (245, 245, 245),
}


def outline(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Polygon of a shape.

    Args:
        shape: circle, square, triangle, star, heart, cross or hexagon.
        x: center in px.
        y: center in px.
        radius: half of the width in px.

    Returns:
        Points in px.

    Raises:
        KeyError: for an unknown shape.
    """
    return [(x + radius * px, y + radius * py) for px, py in _OUTLINES[shape]]


def _polar(angle: float, length: float) -> tuple[float, float]:
    return (length * math.cos(angle), length * math.sin(angle))


def _heart(t: float) -> tuple[float, float]:
    x = 16 * math.sin(t) ** 3
    y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return (x / 16.5, -(y + 2.5) / 15.0)


def _cross(arm: float) -> list[tuple[float, float]]:
    return [
        (-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
        (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm),
    ]  # fmt: skip


_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": [_polar(a, 1.0) for a in np.linspace(0, 2 * math.pi, 48, endpoint=False)],
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0.0, -1.0), (1.0, 0.85), (-1.0, 0.85)],
    "star": [_polar(i * math.pi / 5 - math.pi / 2, 1.08 if i % 2 == 0 else 0.46) for i in range(10)],
    "heart": [_heart(a) for a in np.linspace(0, 2 * math.pi, 48, endpoint=False)],
    "cross": _cross(0.36),
    "hexagon": [_polar(i * math.pi / 3, 1.0) for i in range(6)],
}
"""Polygons of all shapes around the origin, with radius 1."""

_HATCH = 11.0 * np.sin(np.add.outer(np.arange(SIDE), np.arange(SIDE)) * (2 * math.pi / 8))
"""Diagonal hatching of style B's paper in gray levels, shape ``(64, 64)``; on the same 8-px grid as the patterns."""


class Canvas:
    """A 64×64 image; coordinates are in px, y points down.

    Args:
        background: RGB 0 … 255.
        style: ``"a"`` flat and bright; ``"b"`` dark with outlines and hatched paper.
    """

    def __init__(self, background: tuple[int, int, int], style: str) -> None:
        self.style = style
        side = SIDE * _FACTOR
        self.image = Image.new("RGB", (side, side), self.tone(background))
        self.pen = ImageDraw.Draw(self.image)

    def tone(self, color: tuple[int, int, int]) -> tuple[int, int, int]:
        """The color as this style shows it; style B is darker and slightly less saturated."""
        if self.style == "a":
            return color
        gray = sum(color) / 3
        return tuple(round(0.62 * (0.85 * c + 0.15 * gray) + 6) for c in color)  # type: ignore[return-value]

    def polygon(self, points: list[tuple[float, float]], color: tuple[int, int, int]) -> None:
        """A filled polygon; style B adds a black outline."""
        scaled = [(px * _FACTOR, py * _FACTOR) for px, py in points]
        self.pen.polygon(scaled, fill=self.tone(color))
        if self.style == "b":
            self.pen.line([*scaled, scaled[0], scaled[1]], fill=INK, width=10, joint="curve")

    def pattern(self, points: list[tuple[float, float]], name: str, color: tuple[int, int, int]) -> None:
        """Stripes or dots of ``color``, visible only inside the polygon ``points``.

        They are aligned with the image's 8-px grid of latent cells, so that a small VAE can represent them.
        """
        if name == "plain":
            return
        side = SIDE * _FACTOR
        mask = Image.new("L", (side, side), 0)
        ImageDraw.Draw(mask).polygon([(px * _FACTOR, py * _FACTOR) for px, py in points], fill=255)
        layer = Image.new("L", (side, side), 0)
        pen = ImageDraw.Draw(layer)
        for y in range(0, SIDE, 8):
            if name == "striped":
                pen.rectangle([0, (y + 2) * _FACTOR, side, (y + 6) * _FACTOR - 1], fill=255)
                continue
            for x in range(0, SIDE, 8):
                pen.ellipse([(start + end) * _FACTOR for end in (1.6, 6.4) for start in (x, y)], fill=255)
        mask = Image.fromarray(np.minimum(np.asarray(mask), np.asarray(layer)))
        self.image.paste(self.tone(color), mask=mask)
        self.pen = ImageDraw.Draw(self.image)

    def disc(self, x: float, y: float, radius: float, color: tuple[int, int, int]) -> None:
        """A filled disc."""
        box = [(x - radius) * _FACTOR, (y - radius) * _FACTOR, (x + radius) * _FACTOR, (y + radius) * _FACTOR]
        width = 6 if self.style == "b" else 0
        self.pen.ellipse(box, fill=self.tone(color), outline=INK if width else None, width=width or 1)

    def line(self, points: list[tuple[float, float]], width: float, color: tuple[int, int, int]) -> None:
        """A polyline ``width`` px thick."""
        scaled = [(px * _FACTOR, py * _FACTOR) for px, py in points]
        if self.style == "b":
            self.pen.line(scaled, fill=INK, width=round(width * _FACTOR) + 6, joint="curve")
        self.pen.line(scaled, fill=self.tone(color), width=round(width * _FACTOR), joint="curve")

    def finish(self) -> np.ndarray:
        """The finished image, uint8, shape ``(64, 64, 3)``."""
        image = np.asarray(self.image.resize((SIDE, SIDE), Image.Resampling.BOX))
        if self.style == "a":
            return image
        return np.clip(image + _HATCH[..., None], 0, 255).astype(np.uint8)
