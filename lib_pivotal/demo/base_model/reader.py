"""Reading an image back into the world's words by plain image analysis, without machine learning.

The border gives the background. Then each outline of the world, at each size and position and in each color, is
compared with the image; the best few are drawn completely and compared again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from lib_pivotal.demo.draw import COLORS, INK, SIDE, Canvas, outline
from lib_pivotal.demo.world import BACKGROUNDS, PATTERN_SHADE, PATTERNS, SHAPES, darkened

__all__ = ["Reading", "read"]

_HALF = SIDE // 2
_RADII = (12.5, 13.2, 14.0, 14.8, 15.6, 17.0, 18.5, 20.0, 21.0, 22.0, 23.0, 23.8)
_SMALL_BELOW = 18.0
_LEFT_BELOW, _RIGHT_ABOVE = 26.0, 38.0
_FAR = 70.0
"""Distance in RGB levels from which a pixel counts as not explained at all."""
_MIN_FIT = 0.2
_RIVAL = 0.5
"""Guesses whose first fit reaches this share of the best one's are drawn and compared."""
_RIVALS, _FINALISTS = 8, 3
"""The most guesses that are drawn, and the most that may move a little before the last comparison."""
_INK = np.array(INK, np.float32)


@dataclass(frozen=True)
class Reading:
    """What an image seems to show, in the world's words; ``none`` where nothing stands out.

    Attributes:
        fit: how well the outline explains what differs from the background; 1 is perfect, below 0.6 is a blot.
    """

    shape: str
    color: str
    pattern: str
    size: str
    position: str
    background: str
    fit: float


@dataclass(frozen=True)
class _Outlines:
    """All outlines, and what each one is.

    Attributes:
        masks: the inside of each outline at half size, 0 … 1, fp32, shape ``(count, 1024)``.
        lines: the line drawn around it in the same form; empty in style A, which has no lines.
        shapes: index of the shape, int, shape ``(count,)``.
        places: center x, center y and radius in px, shape ``(count, 3)``.
    """

    masks: np.ndarray
    lines: np.ndarray
    shapes: np.ndarray
    places: np.ndarray


@lru_cache(maxsize=2)
def _outlines(style: str) -> _Outlines:
    masks, lines, facts = [], [], []
    for number, shape in enumerate(SHAPES):
        for radius in _RADII:
            for x in np.arange(radius + 1, SIDE - radius, 1.5):
                for y in (28.5, 30.25, 32.0, 33.75, 35.5):
                    points = [(2 * px, 2 * py) for px, py in outline(shape, x, y, radius)]
                    mask, line = (Image.new("L", (2 * SIDE, 2 * SIDE)) for _ in range(2))
                    ImageDraw.Draw(mask).polygon(points, fill=255)
                    if style == "b":
                        ImageDraw.Draw(line).line([*points, points[0], points[1]], fill=255, width=5, joint="curve")
                        mask.paste(0, mask=line)
                        lines.append(_shrink(line))
                    masks.append(_shrink(mask))
                    facts.append((number, x, y, radius))
    known = np.array(facts)
    return _Outlines(np.stack(masks), np.array(lines), known[:, 0].astype(int), known[:, 1:])


def _shrink(image: Image.Image) -> np.ndarray:
    return np.asarray(image.reduce(4), np.float32).ravel() / 255


@lru_cache(maxsize=2)
def _palette(style: str) -> np.ndarray:
    """Colors as the style shows them, fp32, shape ``(8, 3)``."""
    canvas = Canvas((0, 0, 0), style)
    return np.array([canvas.tone(COLORS[name]) for name in BACKGROUNDS], np.float32)


def read(image: np.ndarray, style: str) -> Reading:
    """What an image shows.

    Args:
        image: uint8, shape ``(64, 64, 3)``.
        style: ``"a"`` or ``"b"``.
    """
    pixels = image.reshape(_HALF, 2, _HALF, 2, 3).astype(np.float32).mean((1, 3))
    palette, known = _palette(style), _outlines(style)
    tone = np.median(np.concatenate([pixels[:3], pixels[-3:]]).reshape(-1, 3), axis=0)
    background = int(np.linalg.norm(palette - tone, axis=1).argmin())
    flat = pixels.reshape(-1, 3)
    off_background = np.minimum(np.linalg.norm(flat - tone, axis=1), _FAR) ** 2
    around: np.ndarray | float = 0.0
    if len(known.lines):
        around = known.lines @ (off_background - np.minimum(np.linalg.norm(flat - _INK, axis=1), _FAR) ** 2)
    firsts: list[tuple[float, int, int]] = []  # total, palette index, index of the outline
    for number, color in enumerate(palette):
        if number != background:
            totals = known.masks @ (off_background - np.minimum(_from_shades(flat, color), _FAR) ** 2) + around
            tops = [int(np.where(known.shapes == shape, totals, -np.inf).argmax()) for shape in range(len(SHAPES))]
            firsts += [(float(totals[top]), number, top) for top in tops]
    firsts.sort(reverse=True)
    fit = firsts[0][0] / max(float(off_background[off_background > (0.4 * _FAR) ** 2].sum()), 1.0)
    if fit < _MIN_FIT:
        return Reading("none", "none", "none", "none", "none", BACKGROUNDS[background], fit)
    rivals = [
        _Guess(image, style, background, number, SHAPES[known.shapes[top]]).begin(known.places[top])
        for total, number, top in firsts[:_RIVALS]
        if total >= _RIVAL * firsts[0][0]
    ]
    rivals.sort(key=lambda rival: rival.error)
    if len(rivals) > 1:
        rivals = [rival.look_around() for rival in rivals[:_FINALISTS]]
    winner = min(rivals, key=lambda rival: rival.error)
    x, _, radius = winner.place
    return Reading(
        shape=winner.guess.shape,
        color=BACKGROUNDS[winner.guess.color],
        pattern=winner.pattern,
        size="small" if radius < _SMALL_BELOW else "large",
        position="left" if x < _LEFT_BELOW else "right" if x > _RIGHT_ABOVE else "center",
        background=BACKGROUNDS[background],
        fit=fit,
    )


@dataclass(frozen=True)
class _Guess:
    """A shape and color that the image may show; ``background`` and ``color`` are palette indices."""

    image: np.ndarray
    style: str
    background: int
    color: int
    shape: str

    def begin(self, place: np.ndarray) -> _Drawn:
        """The guess with the pattern that fits best at a place."""
        error, pattern = min((self.mismatch(pattern, place), pattern) for pattern in PATTERNS)
        return _Drawn(self, pattern, place, error)

    def mismatch(self, pattern: str, place: np.ndarray) -> float:
        """Mean squared distance to the drawing of the guess, limited where a pixel is not explained at all."""
        canvas = Canvas(COLORS[BACKGROUNDS[self.background]], self.style)
        points = outline(self.shape, *place)
        canvas.polygon(points, COLORS[BACKGROUNDS[self.color]])
        canvas.pattern(points, pattern, darkened(COLORS[BACKGROUNDS[self.color]]))
        # Smoothed, so that neither grain nor a soft outline counts.
        distance = np.linalg.norm(_smooth(canvas.finish().astype(np.float32) - self.image), axis=2)
        return float(np.square(np.minimum(distance, _FAR)).mean())


@dataclass(frozen=True)
class _Drawn:
    """A guess that has been drawn, and its mismatch."""

    guess: _Guess
    pattern: str
    place: np.ndarray
    error: float

    def look_around(self) -> _Drawn:
        """The guess, moved and scaled a little if that is closer to the image."""
        error, place = self.error, self.place
        for step in np.vstack([np.eye(3), -np.eye(3)]) * 0.6:
            nearby = self.guess.mismatch(self.pattern, place + step)
            if nearby < error:
                error, place = nearby, place + step
        return _Drawn(self.guess, self.pattern, place, error)


def _smooth(pixels: np.ndarray) -> np.ndarray:
    """Weighted mean of 3×3 pixels."""
    for axis in (0, 1):
        before, after = np.roll(pixels, 1, axis), np.roll(pixels, -1, axis)
        pixels = 0.5 * pixels + 0.25 * (before + after)
    return pixels


def _from_shades(pixels: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the closest shade between a color and the color of its pattern."""
    level = np.clip(pixels @ color / float(color @ color), PATTERN_SHADE, 1.0)
    return np.linalg.norm(pixels - level[:, None] * color, axis=1)
