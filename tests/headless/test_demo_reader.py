"""The demo's image reader recognizes everything that the demo draws."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from lib_pivotal.demo.base_model.reader import read
from lib_pivotal.demo.draw import COLORS, Canvas
from lib_pivotal.demo.world import BACKGROUNDS, PATTERNS, POSITIONS, SHAPES, SIZES, Scene, draw

ASPECTS = ("shape", "color", "background", "position", "size", "pattern")


def every_shape_and_pattern() -> list[Scene]:
    """Each shape in each pattern; the other aspects alternate, so that each of their values occurs, too."""
    colors, sizes, positions = list(COLORS), list(SIZES), list(POSITIONS)
    return [
        Scene(
            shape,
            colors[number % len(colors)],
            pattern,
            sizes[number % 2],
            positions[number // 2 % 3],
            BACKGROUNDS[(3 * number + 1) % len(BACKGROUNDS)],
        )
        for number, (shape, pattern) in enumerate(product(SHAPES, PATTERNS))
    ]


@pytest.mark.parametrize("style", ["a", "b"])
def test_reader_reads_drawn_images(style):
    rng = np.random.default_rng(7)
    scenes = every_shape_and_pattern()
    readings = [read(draw(scene, style, rng), style) for scene in scenes]
    wrong = [(s, r) for s, r in zip(scenes, readings) if any(getattr(s, a) != getattr(r, a) for a in ASPECTS)]
    assert not wrong


@pytest.mark.parametrize("style", ["a", "b"])
def test_reader_finds_nothing_on_an_empty_background(style):
    image = Canvas(COLORS["green"], style).finish()
    reading = read(image, style)
    assert (reading.shape, reading.color, reading.background) == ("none", "none", "green")
