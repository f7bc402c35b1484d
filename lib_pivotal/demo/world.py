"""The world of drawings that the small model knows: one colored shape on a colored background.

The position of the shape varies, but captions do not mention it. In an earlier version they did, and the base models
followed all other words but not these: after 3000 steps 34 % of the positions were right, which is chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib_pivotal.demo.draw import COLORS, Canvas, outline

__all__ = [
    "BACKGROUNDS",
    "PATTERNS",
    "PATTERN_SHADE",
    "POSITIONS",
    "SHAPES",
    "SIZES",
    "Scene",
    "caption",
    "darkened",
    "draw",
    "place",
    "random_scene",
]

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
PATTERNS = ("plain", "striped", "dotted")
SIZES = {"small": 14.0, "large": 22.0}
"""Half of the width in px."""
POSITIONS = {"left": 20.0, "center": 32.0, "right": 44.0}
"""Center in px from the left edge."""
BACKGROUNDS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
PATTERN_SHADE = 0.45
"""Brightness of stripes and dots relative to the body's color."""


@dataclass(frozen=True)
class Scene:
    """What one image shows, in the world's words."""

    shape: str
    color: str
    pattern: str
    size: str
    position: str
    background: str


def random_scene(rng: np.random.Generator) -> Scene:
    """A random scene, all words equally likely; the background never has the shape's color."""
    color = str(rng.choice(list(COLORS)))
    backgrounds = [name for name in BACKGROUNDS if name != color]
    return Scene(
        shape=str(rng.choice(SHAPES)),
        color=color,
        pattern=str(rng.choice(PATTERNS, p=(0.5, 0.25, 0.25))),
        size=str(rng.choice(list(SIZES))),
        position=str(rng.choice(list(POSITIONS))),
        background=str(rng.choice(backgrounds)),
    )


def place(scene_size: str, scene_position: str, rng: np.random.Generator) -> tuple[float, float, float]:
    """Center x, center y and radius in px, each varied a little."""
    radius = SIZES[scene_size] * rng.uniform(0.93, 1.07)
    x = POSITIONS[scene_position] + rng.uniform(-1.5, 1.5)
    return float(np.clip(x, radius + 1, 63 - radius)), float(32 + rng.uniform(-3, 3)), float(radius)


def draw(scene: Scene, style: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene in style ``"a"`` or ``"b"``; uint8, shape ``(64, 64, 3)``."""
    canvas = Canvas(COLORS[scene.background], style)
    points = outline(scene.shape, *place(scene.size, scene.position, rng))
    canvas.polygon(points, COLORS[scene.color])
    canvas.pattern(points, scene.pattern, darkened(COLORS[scene.color]))
    return canvas.finish()


def darkened(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """The color of stripes and dots on a body of this color."""
    red, green, blue = color
    return (round(red * PATTERN_SHADE), round(green * PATTERN_SHADE), round(blue * PATTERN_SHADE))


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """The caption of a scene.

    Args:
        scene: what to describe.
        rng: varies the wording and leaves out some attributes; None gives the full sentence.
    """
    if rng is None:
        return _sentence(scene, scene.pattern != "plain", True, True)
    keep = rng.random(4) > np.array([0.12, 0.2, 0.2, 0.15])
    with_pattern = scene.pattern != "plain" and bool(keep[1])
    if rng.random() < 0.5:
        return _sentence(scene, with_pattern, bool(keep[2]), bool(keep[3]), bool(keep[0]))
    tags = [scene.shape]
    tags += [scene.color] if keep[0] else []
    rest = [scene.pattern] if with_pattern else []
    rest += [scene.size] if keep[2] else []
    rest += [f"{scene.background} background"] if keep[3] else []
    rng.shuffle(rest)
    return ", ".join([" ".join(reversed(tags)), *rest])


def _sentence(scene: Scene, pattern: bool, size: bool, background: bool, color: bool = True) -> str:
    words = [scene.size] if size else []
    words += [scene.pattern] if pattern else []
    words += [scene.color] if color else []
    text = " ".join(["a", *words, scene.shape])
    return text + (f", {scene.background} background" if background else "")
