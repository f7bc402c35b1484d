"""The drawn world: what the captions say is what the images show, and the reader can tell."""

from __future__ import annotations

import numpy as np
import pytest

from lib_pivotal.demo.base_model.reader import read
from lib_pivotal.demo.draw import COLORS, Canvas
from lib_pivotal.demo.world import caption, draw, random_scene

ASPECTS = ("shape", "color", "background", "position", "size", "pattern")


@pytest.mark.parametrize("style", ["a", "b"])
def test_reader_reads_drawn_images(style):
    rng = np.random.default_rng(7)
    scenes = [random_scene(rng) for _ in range(40)]
    readings = [read(draw(scene, style, rng), style) for scene in scenes]
    wrong = [(s, r) for s, r in zip(scenes, readings) if any(getattr(s, a) != getattr(r, a) for a in ASPECTS)]
    assert not wrong


@pytest.mark.parametrize("style", ["a", "b"])
def test_reader_sees_nothing_on_an_empty_ground(style):
    image = Canvas(COLORS["green"], style).finish()
    reading = read(image, style)
    assert (reading.shape, reading.color, reading.background) == ("none", "none", "green")


def test_images_repeat_with_their_seed():
    scene = random_scene(np.random.default_rng(1))
    first, second = (draw(scene, "b", np.random.default_rng(2)) for _ in range(2))
    assert (first == second).all()


def test_full_caption_names_every_attribute():
    rng = np.random.default_rng(3)
    for _ in range(50):
        scene = random_scene(rng)
        words = caption(scene).replace(",", "").split()
        expected = {scene.shape, scene.color, scene.size, scene.background}
        assert expected <= set(words) and (scene.pattern in words) == (scene.pattern != "plain")


def test_varied_captions_say_nothing_false():
    rng = np.random.default_rng(4)
    for _ in range(200):
        scene = random_scene(rng)
        words = set(caption(scene, rng).replace(",", "").split())
        true = {scene.shape, scene.color, scene.size, scene.background, scene.pattern}
        assert words <= true | {"a", "background"}
