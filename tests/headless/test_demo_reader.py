"""The demo's image reader recognizes everything that the demo draws."""

from __future__ import annotations

import numpy as np
import pytest

from lib_pivotal.demo.base_model.reader import read
from lib_pivotal.demo.draw import COLORS, Canvas
from lib_pivotal.demo.world import draw, random_scene

ASPECTS = ("shape", "color", "background", "position", "size", "pattern")


@pytest.mark.parametrize("style", ["a", "b"])
def test_reader_reads_drawn_images(style):
    rng = np.random.default_rng(7)
    scenes = [random_scene(rng) for _ in range(40)]
    readings = [read(draw(scene, style, rng), style) for scene in scenes]
    wrong = [(s, r) for s, r in zip(scenes, readings) if any(getattr(s, a) != getattr(r, a) for a in ASPECTS)]
    assert not wrong


@pytest.mark.parametrize("style", ["a", "b"])
def test_reader_finds_nothing_on_an_empty_background(style):
    image = Canvas(COLORS["green"], style).finish()
    reading = read(image, style)
    assert (reading.shape, reading.color, reading.background) == ("none", "none", "green")
