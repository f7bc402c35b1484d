"""The demo's drawn images: they repeat with their seed, and captions describe what they show."""

from __future__ import annotations

import numpy as np

from lib_pivotal.demo.world import caption, draw, random_scene


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


def test_varied_captions_name_only_what_is_shown():
    rng = np.random.default_rng(4)
    for _ in range(200):
        scene = random_scene(rng)
        words = set(caption(scene, rng).replace(",", "").split())
        true = {scene.shape, scene.color, scene.size, scene.background, scene.pattern}
        assert words <= true | {"a", "background"}
