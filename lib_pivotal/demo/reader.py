"""Reading a picture back into the world's words by plain image analysis.

The rim gives the ground. Every outline the world can hold, at every size and place, is then laid over the
picture for every colour; the best few are drawn in full and compared with the picture. No learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from lib_pivotal.demo.draw import COLOURS, INK, SIDE, Canvas, outline
from lib_pivotal.demo.world import BACKGROUNDS, PATTERN_SHADE, PATTERNS, SHAPES, darkened

__all__ = ["Reading", "read"]

_HALF = SIDE // 2
_RADII = (12.5, 13.2, 14.0, 14.8, 15.6, 17.0, 18.5, 20.0, 21.0, 22.0, 23.0, 23.8)
_SMALL_BELOW = 18.0
_LEFT_BELOW, _RIGHT_ABOVE = 26.0, 38.0
_FAR = 70.0
"""Distance in RGB levels beyond which a pixel is simply not explained."""
_LEAST_FIT = 0.2
_RIVAL = 0.5
"""Guesses whose first fit is at least this share of the best one's are drawn and compared, …"""
_RIVALS, _FINALISTS = 8, 3
"""… at most so many of them; and so many may move a little before the last comparison."""
_INK = np.array(INK, np.float32)


@dataclass(frozen=True)
class Reading:
    """What a picture seems to show, in the world's words; ``none`` where nothing stands out.

    Attributes:
        fit: how well the outline explains what differs from the ground; 1 is perfect, below 0.6 is a blot.
    """

    shape: str
    colour: str
    pattern: str
    size: str
    position: str
    background: str
    fit: float


@dataclass(frozen=True)
class _Outlines:
    """All outlines, and what each one is.

    Attributes:
        masks: inside, at half size, 0 … 1, fp32, shape ``(count, 1024)``.
        lines: the drawn line around it, likewise; empty in style A, which has none.
        shapes: index of the shape, int, shape ``(count,)``.
        places: centre x, centre y and radius in px, shape ``(count, 3)``.
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
    """Colours as the style shows them, fp32, shape ``(8, 3)``."""
    canvas = Canvas((0, 0, 0), style)
    return np.array([canvas.tone(COLOURS[name]) for name in BACKGROUNDS], np.float32)


def read(picture: np.ndarray, style: str) -> Reading:
    """What a picture shows.

    Args:
        picture: uint8, shape ``(64, 64, 3)``.
        style: ``"a"`` or ``"b"``.
    """
    pixels = picture.reshape(_HALF, 2, _HALF, 2, 3).astype(np.float32).mean((1, 3))
    palette, known = _palette(style), _outlines(style)
    tone = np.median(np.concatenate([pixels[:3], pixels[-3:]]).reshape(-1, 3), axis=0)
    ground = int(np.linalg.norm(palette - tone, axis=1).argmin())
    flat = pixels.reshape(-1, 3)
    off_ground = np.minimum(np.linalg.norm(flat - tone, axis=1), _FAR) ** 2
    around: np.ndarray | float = 0.0
    if len(known.lines):
        around = known.lines @ (off_ground - np.minimum(np.linalg.norm(flat - _INK, axis=1), _FAR) ** 2)
    firsts: list[tuple[float, int, int]] = []  # total, palette index, index of the outline
    for number, colour in enumerate(palette):
        if number != ground:
            totals = known.masks @ (off_ground - np.minimum(_from_shades(flat, colour), _FAR) ** 2) + around
            tops = [int(np.where(known.shapes == shape, totals, -np.inf).argmax()) for shape in range(len(SHAPES))]
            firsts += [(float(totals[top]), number, top) for top in tops]
    firsts.sort(reverse=True)
    fit = firsts[0][0] / max(float(off_ground[off_ground > (0.4 * _FAR) ** 2].sum()), 1.0)
    if fit < _LEAST_FIT:
        return Reading("none", "none", "none", "none", "none", BACKGROUNDS[ground], fit)
    rivals = [
        _Guess(picture, style, ground, number, SHAPES[known.shapes[top]]).begin(known.places[top])
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
        colour=BACKGROUNDS[winner.guess.colour],
        pattern=winner.pattern,
        size="small" if radius < _SMALL_BELOW else "large",
        position="left" if x < _LEFT_BELOW else "right" if x > _RIGHT_ABOVE else "center",
        background=BACKGROUNDS[ground],
        fit=fit,
    )


@dataclass(frozen=True)
class _Guess:
    """A shape and colour that the picture may show; ``ground`` and ``colour`` are palette indices."""

    picture: np.ndarray
    style: str
    ground: int
    colour: int
    shape: str

    def begin(self, place: np.ndarray) -> _Drawn:
        """The guess with its best pattern at a place."""
        error, pattern = min((self.mismatch(kind, place), kind) for kind in PATTERNS)
        return _Drawn(self, pattern, place, error)

    def mismatch(self, pattern: str, place: np.ndarray) -> float:
        """Mean squared distance to the drawing of the guess, cut off where a pixel is not explained at all."""
        canvas = Canvas(COLOURS[BACKGROUNDS[self.ground]], self.style)
        points = outline(self.shape, *place)
        canvas.polygon(points, COLOURS[BACKGROUNDS[self.colour]])
        canvas.pattern(points, pattern, darkened(COLOURS[BACKGROUNDS[self.colour]]))
        # Both are smoothed, so that neither grain nor a soft outline counts.
        distance = np.linalg.norm(_smooth(canvas.finish().astype(np.float32) - self.picture), axis=2)
        return float(np.square(np.minimum(distance, _FAR)).mean())


@dataclass(frozen=True)
class _Drawn:
    """A guess that has been drawn, and its mismatch."""

    guess: _Guess
    pattern: str
    place: np.ndarray
    error: float

    def look_around(self) -> _Drawn:
        """The same, moved and scaled a little if that is nearer to the picture."""
        error, place = self.error, self.place
        for step in np.vstack([np.eye(3), -np.eye(3)]) * 0.6:
            nearby = self.guess.mismatch(self.pattern, place + step)
            if nearby < error:
                error, place = nearby, place + step
        return _Drawn(self.guess, self.pattern, place, error)


def _smooth(pixels: np.ndarray) -> np.ndarray:
    """Weighted mean of 3×3 neighbours."""
    for axis in (0, 1):
        before, after = np.roll(pixels, 1, axis), np.roll(pixels, -1, axis)
        pixels = 0.5 * pixels + 0.25 * (before + after)
    return pixels


def _from_shades(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest shade of a colour between its own and its pattern's."""
    level = np.clip(pixels @ colour / float(colour @ colour), PATTERN_SHADE, 1.0)
    return np.linalg.norm(pixels - level[:, None] * colour, axis=1)
