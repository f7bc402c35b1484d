"""The backgrounds of the sample images and the things that the robot holds."""

from __future__ import annotations

import random
from collections.abc import Callable

from lib_pivotal.core.samples.drawing import Color, Drawing

__all__ = ["BACKGROUNDS", "THINGS"]

_GRASS: Color = (110, 178, 84)
_TRUNK: Color = (120, 82, 52)
_SNOW: Color = (240, 246, 252)


def _meadow(drawing: Drawing) -> None:
    drawing.gradient((120, 192, 240), (214, 236, 250))
    drawing.circle(0.82, 0.17, 0.08, (254, 224, 96))
    drawing.ellipse(0.2, 0.95, 1.1, 0.7, (140, 198, 104))
    drawing.ellipse(0.85, 1.0, 1.2, 0.7, _GRASS)
    rng = random.Random(1)
    for _ in range(26):
        drawing.circle(rng.random(), rng.uniform(0.78, 0.98), 0.011, rng.choice([(250, 250, 250), (248, 210, 80)]))


def _beach(drawing: Drawing) -> None:
    drawing.gradient((126, 206, 244), (226, 244, 252), 0.52)
    drawing.box(0.5, 0.61, 1.0, 0.24, (48, 140, 196))
    drawing.box(0.5, 0.86, 1.0, 0.32, (240, 214, 156))
    for x in (0.15, 0.45, 0.75, 1.0):
        drawing.ellipse(x, 0.715, 0.34, 0.05, (250, 252, 252))
    drawing.polygon([(0.74, 0.5), (0.9, 0.5), (0.86, 0.55), (0.78, 0.55)], (190, 80, 60))
    drawing.polygon([(0.82, 0.32), (0.82, 0.49), (0.91, 0.49)], (250, 250, 246))


def _night(drawing: Drawing) -> None:
    drawing.gradient((14, 20, 58), (60, 66, 130))
    rng = random.Random(2)
    for _ in range(60):
        drawing.circle(rng.random(), rng.uniform(0, 0.7), rng.uniform(0.002, 0.006), (250, 248, 220))
    drawing.circle(0.2, 0.18, 0.08, (250, 244, 206))
    drawing.circle(0.235, 0.16, 0.07, (22, 28, 70))
    drawing.ellipse(0.5, 1.02, 1.5, 0.5, (36, 62, 62))


def _snow(drawing: Drawing) -> None:
    drawing.gradient((168, 196, 222), (228, 238, 248))
    for x, size in ((0.12, 0.34), (0.88, 0.42), (0.72, 0.26)):
        for level in range(3):
            top = 0.74 - size * (0.4 + 0.3 * level)
            wide = size * (0.42 - 0.1 * level)
            drawing.polygon([(x, top - 0.06), (x - wide, top + size * 0.36), (x + wide, top + size * 0.36)],
                            (58, 112, 92))  # fmt: skip
    drawing.ellipse(0.5, 1.06, 1.8, 0.72, _SNOW)
    rng = random.Random(3)
    for _ in range(60):
        drawing.circle(rng.random(), rng.random(), rng.uniform(0.004, 0.009), (255, 255, 255))


def _forest(drawing: Drawing) -> None:
    drawing.gradient((150, 196, 140), (206, 226, 176))
    for x, width in ((0.08, 0.1), (0.26, 0.06), (0.7, 0.07), (0.92, 0.12)):
        drawing.box(x, 0.42, width, 0.9, _TRUNK)
    for x in (0.0, 0.2, 0.4, 0.62, 0.82, 1.0):
        drawing.circle(x, 0.06, 0.17, (70, 132, 72))
    drawing.box(0.5, 0.93, 1.0, 0.2, (92, 142, 76))


def _city(drawing: Drawing) -> None:
    drawing.gradient((246, 178, 132), (250, 224, 190))
    rng = random.Random(4)
    for x in (0.08, 0.25, 0.42, 0.6, 0.77, 0.93):
        height = rng.uniform(0.35, 0.65)
        drawing.box(x, 0.86 - height / 2, 0.15, height, rng.choice([(104, 98, 130), (128, 110, 138), (88, 92, 120)]))
        for row in range(int(height / 0.08)):
            for column in (-0.035, 0.035):
                drawing.box(x + column, 0.9 - height + row * 0.08, 0.03, 0.035, (252, 226, 140))
    drawing.box(0.5, 0.93, 1.0, 0.15, (92, 92, 98))


def _room(drawing: Drawing) -> None:
    drawing.box(0.5, 0.5, 1.0, 1.0, (238, 214, 184))
    drawing.box(0.5, 0.92, 1.0, 0.22, (164, 112, 72))
    drawing.box(0.2, 0.3, 0.26, 0.32, (250, 250, 250))
    drawing.box(0.2, 0.3, 0.22, 0.28, (138, 198, 236))
    drawing.box(0.2, 0.3, 0.012, 0.28, (250, 250, 250))
    drawing.box(0.84, 0.56, 0.22, 0.54, (142, 94, 62))
    for row in range(3):
        drawing.box(0.84, 0.41 + 0.16 * row, 0.18, 0.11, (96, 62, 42))
        for column, color in enumerate(((204, 74, 70), (80, 130, 190), (240, 200, 90), (110, 160, 96))):
            drawing.box(0.775 + 0.042 * column, 0.415 + 0.16 * row, 0.03, 0.09, color)


def _plain(color: Color) -> Callable[[Drawing], None]:
    return lambda drawing: drawing.box(0.5, 0.5, 1.0, 1.0, color)


BACKGROUNDS: dict[str, Callable[[Drawing], None]] = {
    "meadow, blue sky, sun": _meadow,
    "beach, sea, sailing boat": _beach,
    "night, moon, stars": _night,
    "snow, fir trees": _snow,
    "forest, trees": _forest,
    "city, buildings, evening": _city,
    "indoors, window, bookshelf": _room,
    "white background": _plain((255, 255, 255)),
    "pink background": _plain((246, 176, 196)),
    "yellow background": _plain((250, 220, 120)),
    "gray background": _plain((176, 180, 186)),
}
"""Tags → draws what they say over the whole image."""


def _balloon(drawing: Drawing, x: float, y: float) -> None:
    drawing.line([(x, y), (x + 0.02, y - 0.2)], 0.005, (70, 70, 80))
    drawing.ellipse(x + 0.02, y - 0.27, 0.13, 0.16, (226, 66, 72))


def _umbrella(drawing: Drawing, x: float, y: float) -> None:
    drawing.line([(x, y + 0.03), (x, y - 0.26)], 0.012, (90, 70, 60))
    edge = [(-0.16, -0.24), (-0.09, -0.33), (0.0, -0.37), (0.09, -0.33), (0.16, -0.24)]
    drawing.polygon([(x + dx, y + dy) for dx, dy in edge], (84, 104, 196))


def _flower(drawing: Drawing, x: float, y: float) -> None:
    drawing.line([(x, y + 0.02), (x + 0.01, y - 0.12)], 0.01, (70, 140, 70))
    for dx, dy in ((0.03, 0), (-0.03, 0), (0, 0.03), (0, -0.03)):
        drawing.circle(x + 0.01 + dx, y - 0.14 + dy, 0.024, (246, 150, 190))
    drawing.circle(x + 0.01, y - 0.14, 0.02, (250, 214, 80))


def _ice_cream(drawing: Drawing, x: float, y: float) -> None:
    drawing.polygon([(x, y + 0.04), (x - 0.035, y - 0.06), (x + 0.035, y - 0.06)], (222, 168, 96))
    drawing.circle(x, y - 0.08, 0.042, (250, 236, 214))
    drawing.circle(x, y - 0.135, 0.036, (238, 150, 170))


THINGS: dict[str, Callable[[Drawing, float, float], None]] = {
    "red balloon": _balloon,
    "blue umbrella": _umbrella,
    "flower": _flower,
    "ice cream": _ice_cream,
}
"""Tag → draws a thing at a hand."""
