"""Drawn characters that the bases have never seen, with captions: data to train on and data to compare with.

Each character is near the world's words (its body's shape, pattern and colours are combinations of them),
so an embedding alone can find part of it; eyes, legs, horns and antennae are nothing the world has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from lib_pivotal.demo.draw import COLOURS, Canvas, outline
from lib_pivotal.demo.world import BACKGROUNDS, POSITIONS, SIZES, place

__all__ = ["CHARACTERS", "SPLITS", "Character", "Pose", "draw_character", "poses", "write_dataset"]

_INK = (15, 15, 20)
_WHITE = (245, 245, 245)
SPLITS = ("train", "held_out")
TRAIN_COUNT = 16
"""Training pictures a character."""


@dataclass(frozen=True)
class Pose:
    """What changes from picture to picture of one character, in the world's words."""

    size: str
    position: str
    background: str


@dataclass(frozen=True)
class Character:
    """A character and how its data set is made.

    Attributes:
        name: the made-up word for it in captions; several CLIP tokens, so it can become a trigger word.
        description: its traits, for people.
        held_out: grounds that its training pictures never show.
        paint: draws it: canvas, ground colour, centre x, centre y and radius in px.
    """

    name: str
    description: str
    held_out: tuple[str, ...]
    paint: Callable[[Canvas, tuple[int, int, int], float, float, float], None]


def _paint_zog(canvas: Canvas, ground: tuple[int, int, int], x: float, y: float, r: float) -> None:
    for side in (-1, 1):
        tip = (x + side * 0.62 * r, y - 1.38 * r)
        canvas.line([(x + side * 0.25 * r, y - 0.7 * r), tip], 0.14 * r, _INK)
        canvas.disc(*tip, 0.2 * r, COLOURS["yellow"])
    body = [(x + 0.88 * (px - x), py) for px, py in outline("circle", x, y, r)]
    canvas.polygon(body, (30, 170, 165))
    canvas.pattern(body, "striped", (15, 80, 95))
    for side in (-1, 1):
        canvas.disc(x + side * 0.4 * r, y - 0.25 * r, 0.36 * r, _WHITE)
        canvas.disc(x + side * 0.34 * r, y - 0.2 * r, 0.16 * r, _INK)


def _paint_mib(canvas: Canvas, ground: tuple[int, int, int], x: float, y: float, r: float) -> None:
    for side in (-1, 1):
        foot = (x + side * 0.5 * r, y + 1.3 * r)
        canvas.line([(x + side * 0.42 * r, y + 0.6 * r), foot, (foot[0] + side * 0.3 * r, foot[1])], 0.2 * r, _INK)
    canvas.disc(x, y, r, (215, 35, 140))
    canvas.disc(x, y, 0.56 * r, ground)
    canvas.disc(x, y, 0.4 * r, _WHITE)
    canvas.disc(x, y + 0.05 * r, 0.2 * r, COLOURS["blue"])


def _paint_tuk(canvas: Canvas, ground: tuple[int, int, int], x: float, y: float, r: float) -> None:
    for side in (-1, 1):
        horn = [(0.15, -0.8), (0.85, -0.8), (0.8, -1.5)]
        canvas.polygon([(x + side * px * r, y + py * r) for px, py in horn], COLOURS["red"])
    body = outline("square", x, y, r)
    canvas.polygon(body, (165, 205, 50))
    canvas.pattern(body, "dotted", (75, 105, 20))
    mouth = [(-0.6, 0.2), (0.6, 0.2), (0.6, 0.6), (-0.6, 0.6)]
    canvas.polygon([(x + px * r, y + py * r) for px, py in mouth], _WHITE)
    for side in (-1, 1):
        canvas.disc(x + side * 0.38 * r, y - 0.3 * r, 0.18 * r, _INK)


CHARACTERS: dict[str, Character] = {
    character.name: character
    for character in (
        Character(
            "zogling",
            "a striped teal egg with two big white eyes and yellow-tipped antennae",
            ("orange", "purple", "white"),
            _paint_zog,
        ),
        Character(
            "mibble",
            "a magenta ring with one blue eye in its hole and two dark legs",
            ("yellow", "blue", "white"),
            _paint_mib,
        ),
        Character(
            "tukkin",
            "a lime, dotted square with red horns, small dark eyes and a wide white mouth",
            ("blue", "purple", "pink"),
            _paint_tuk,
        ),
    )
}


def poses(character: str, split: str) -> list[Pose]:
    """The poses of a split, always the same.

    Training has :data:`TRAIN_COUNT` poses with every seen ground at least three times; ``held_out`` has all
    sizes and positions on the unseen grounds.

    Args:
        character: key of :data:`CHARACTERS`.
        split: ``"train"`` or ``"held_out"``.

    Raises:
        KeyError: for an unknown character.
        ValueError: for an unknown split.
    """
    unseen = CHARACTERS[character].held_out
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, not one of {', '.join(SPLITS)}")
    if split == "held_out":
        return [Pose(*words) for words in product(SIZES, POSITIONS, unseen)]
    seen = [name for name in BACKGROUNDS if name not in unseen]
    places = list(product(SIZES, POSITIONS))
    # The five grounds go round while sizes and positions go round at their own pace of six.
    return [Pose(*places[i % len(places)], seen[i % len(seen)]) for i in range(TRAIN_COUNT)]


def draw_character(character: str, pose: Pose, style: str, rng: np.random.Generator) -> np.ndarray:
    """Picture of a character in style ``"a"`` or ``"b"``; uint8, shape ``(64, 64, 3)``."""
    canvas = Canvas(COLOURS[pose.background], style)
    x, y, radius = place(pose.size, pose.position, rng)
    # Limbs reach 1.5 radii from the centre; a large body shrinks so that they stay inside the picture.
    CHARACTERS[character].paint(canvas, COLOURS[pose.background], x, y, min(radius, 18.5))
    return canvas.finish()


def write_dataset(folder: Path, character: str, split: str = "train", style: str = "a") -> list[Path]:
    """Write the pictures of a split as PNG, each with its caption in a ``.txt`` of the same name.

    The same arguments give the same files; the two styles show the same poses and places.

    Args:
        folder: made if missing.
        character: key of :data:`CHARACTERS`.
        split: ``"train"`` or ``"held_out"``.
        style: ``"a"`` or ``"b"``.

    Returns:
        The PNG files, in order.

    Raises:
        KeyError: for an unknown character.
        ValueError: for an unknown split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, pose in enumerate(poses(character, split)):
        rng = np.random.default_rng([list(CHARACTERS).index(character), SPLITS.index(split), number])
        path = folder / f"{character}-{split}-{number:02d}.png"
        Image.fromarray(draw_character(character, pose, style, rng)).save(path)
        words = f"{character}, {pose.position}, {pose.size}, {pose.background} background"
        path.with_suffix(".txt").write_text(words + "\n", encoding="utf-8")
        paths.append(path)
    return paths
