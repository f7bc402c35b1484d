"""The drawn world: what the captions say is what the pictures show, and the reader can tell."""

from __future__ import annotations

import numpy as np
import pytest

from lib_pivotal.demo.reader import read
from lib_pivotal.demo.world import caption, draw, random_scene


@pytest.mark.parametrize("style", ["a", "b"])
def test_reader_reads_drawn_pictures(style):
    rng = np.random.default_rng(7)
    wrong = {"shape": [], "colour": [], "background": [], "position": []}
    for _ in range(400):
        scene = random_scene(rng)
        reading = read(draw(scene, style, rng), style)
        for what, cases in wrong.items():
            if getattr(reading, what) != getattr(scene, what):
                cases.append((scene, reading))
    assert {what: len(cases) for what, cases in wrong.items() if len(cases) > 4} == {}, wrong


def test_pictures_repeat_with_their_seed():
    scene = random_scene(np.random.default_rng(1))
    first, second = (draw(scene, "b", np.random.default_rng(2)) for _ in range(2))
    assert (first == second).all()


def test_full_caption_names_every_attribute():
    rng = np.random.default_rng(3)
    for _ in range(50):
        scene = random_scene(rng)
        words = caption(scene).replace(",", "").split()
        expected = {scene.shape, scene.colour, scene.size, scene.position, scene.background}
        assert expected <= set(words) and (scene.pattern in words) == (scene.pattern != "plain")


def test_varied_captions_say_nothing_false():
    rng = np.random.default_rng(4)
    for _ in range(200):
        scene = random_scene(rng)
        words = set(caption(scene, rng).replace(",", "").split())
        true = {scene.shape, scene.colour, scene.size, scene.position, scene.background, scene.pattern}
        assert words <= true | {"a", "background"}
