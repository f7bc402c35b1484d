"""Drawn characters that the base models have never seen, with captions: one dataset to train on, one to evaluate on.

A character's body is close to a combination of the world's words, so an embedding alone can find part of it. Its color
lies between the world's colors, and no image of the world has a second part: hats, feet and centers are up to the LoRA.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from lib_pivotal.demo.draw import COLORS, Canvas, outline
from lib_pivotal.demo.world import BACKGROUNDS, POSITIONS, SIZES, darkened, place

__all__ = ["CHARACTERS", "SPLITS", "Character", "Pose", "draw_character", "poses", "write_dataset"]

SPLITS = ("train", "held_out")
TRAIN_COUNT = 16
"""Training images per character."""


@dataclass(frozen=True)
class Pose:
    """What changes between images of one character; captions do not mention the position."""

    size: str
    position: str
    background: str


@dataclass(frozen=True)
class Character:
    """A character and how its dataset is made.

    Attributes:
        name: the made-up word for it in captions; several CLIP tokens long, so it can become a trigger word.
        description: what it looks like.
        held_out: backgrounds that its training images never have.
        paint: draws it: canvas, center x, center y and radius in px.
    """

    name: str
    description: str
    held_out: tuple[str, ...]
    paint: Callable[[Canvas, float, float, float], None]


def _paint_zog(canvas: Canvas, x: float, y: float, r: float) -> None:
    _part(canvas, "square", x, y + 0.25 * r, 0.95 * r, (45, 100, 205), "striped")
    _part(canvas, "triangle", x, y - 0.9 * r, 0.42 * r, COLORS["yellow"])


def _paint_mib(canvas: Canvas, x: float, y: float, r: float) -> None:
    for side in (-1, 1):
        _part(canvas, "square", x + side * 0.5 * r, y + 0.8 * r, 0.32 * r, COLORS["green"])
    _part(canvas, "heart", x, y - 0.15 * r, r, (240, 130, 185), "dotted")


def _paint_tuk(canvas: Canvas, x: float, y: float, r: float) -> None:
    _part(canvas, "cross", x, y + 0.1 * r, r, (240, 140, 40))
    _part(canvas, "circle", x, y + 0.1 * r, 0.4 * r, COLORS["purple"])


def _part(
    canvas: Canvas, shape: str, x: float, y: float, r: float, color: tuple[int, int, int], pattern: str = "plain"
) -> None:
    points = outline(shape, x, y, r)
    canvas.polygon(points, color)
    canvas.pattern(points, pattern, darkened(color))


CHARACTERS: dict[str, Character] = {
    character.name: character
    for character in (
        Character(
            "zogling",
            "a striped square in a blue that the world does not have, with a small yellow triangle for a hat",
            ("orange", "purple", "white"),
            _paint_zog,
        ),
        Character(
            "mibble",
            "a dotted heart in a strong pink, on two small green feet",
            ("yellow", "blue", "white"),
            _paint_mib,
        ),
        Character(
            "tukkin",
            "a muted orange cross with a purple disc in the center",
            ("blue", "purple", "pink"),
            _paint_tuk,
        ),
    )
}


def poses(character: str, split: str) -> list[Pose]:
    """The poses of a split, the same at every call.

    Training has :data:`TRAIN_COUNT` poses, with each background of the split at least three times; ``held_out`` has all
    sizes and positions on the other backgrounds.

    Args:
        character: key of :data:`CHARACTERS`.
        split: ``"train"`` or ``"held_out"``.

    Raises:
        KeyError: for an unknown character.
        ValueError: for an unknown split.
    """
    held_out = CHARACTERS[character].held_out
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, not one of {', '.join(SPLITS)}")
    if split == "held_out":
        return [Pose(*words) for words in product(SIZES, POSITIONS, held_out)]
    trained = [name for name in BACKGROUNDS if name not in held_out]
    layouts = list(product(SIZES, POSITIONS))
    # Five backgrounds and six layouts repeat at different rates, so that they combine in many ways.
    return [Pose(*layouts[i % len(layouts)], trained[i % len(trained)]) for i in range(TRAIN_COUNT)]


def draw_character(character: str, pose: Pose, style: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a character in style ``"a"`` or ``"b"``; uint8, shape ``(64, 64, 3)``."""
    canvas = Canvas(COLORS[pose.background], style)
    x, y, radius = place(pose.size, pose.position, rng)
    # Hats and feet reach 1.4 radii from the center; a large body is made smaller so that they stay inside the image.
    CHARACTERS[character].paint(canvas, x, y, min(radius, 18.5))
    return canvas.finish()


def write_dataset(folder: Path, character: str, split: str = "train", style: str = "a") -> list[Path]:
    """Write the images of a split as PNG files, each with its caption in a ``.txt`` of the same name.

    The same arguments give the same files; the two styles show the same poses at the same positions.

    Args:
        folder: created if missing.
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
        caption = f"{character}, {pose.size}, {pose.background} background"
        path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
        paths.append(path)
    return paths
