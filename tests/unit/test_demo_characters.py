"""The drawn characters: repeatable data sets whose held-out grounds were never trained on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lib_pivotal.demo.characters import CHARACTERS, poses, write_dataset
from lib_pivotal.demo.world import BACKGROUNDS, COLORS, SHAPES

WORLD = {*SHAPES, *COLORS, *BACKGROUNDS}


@pytest.mark.parametrize("character", list(CHARACTERS))
def test_held_out_grounds_are_never_trained_on(character):
    seen = {pose.background for pose in poses(character, "train")}
    unseen = {pose.background for pose in poses(character, "held_out")}
    assert not seen & unseen
    assert seen | unseen == set(BACKGROUNDS)
    assert len(unseen) >= 2


@pytest.mark.parametrize("character", list(CHARACTERS))
def test_splits_have_enough_different_poses(character):
    train, held_out = poses(character, "train"), poses(character, "held_out")
    assert 12 <= len(train) <= 20 and len(held_out) >= 16
    assert len(set(train)) == len(train) and len(set(held_out)) == len(held_out)
    assert len({(pose.size, pose.position) for pose in train}) == 6


@pytest.mark.parametrize("style", ["a", "b"])
def test_data_set_is_images_with_captions_and_repeats(tmp_path, style):
    first = write_dataset(tmp_path / "one", "zogling", "train", style)
    second = write_dataset(tmp_path / "two", "zogling", "train", style)
    for one, two, pose in zip(first, second, poses("zogling", "train"), strict=True):
        assert one.read_bytes() == two.read_bytes()
        words = one.with_suffix(".txt").read_text().strip().split(", ")
        assert words == ["zogling", pose.size, f"{pose.background} background"]
        assert Image.open(one).size == (64, 64)


def test_images_show_the_ground_of_their_captions(tmp_path):
    for character in CHARACTERS:
        for path, pose in zip(write_dataset(tmp_path, character, "held_out"), poses(character, "held_out")):
            corner = np.asarray(Image.open(path))[-2:, :2].reshape(-1, 3)
            assert (corner == COLORS[pose.background]).all(), path.name


def test_character_names_are_no_words_of_the_world():
    assert not set(CHARACTERS) & WORLD


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="held_out"):
        poses("zogling", "test")
