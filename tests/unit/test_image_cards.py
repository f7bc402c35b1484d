"""Cards of images: what they show, and what searches find."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.dataset_changes import changes_between
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.image_cards import ImageSearch, cards_of, found_by, tag_counts
from lib_pivotal.core.data.thumbnail import THUMBNAIL_SIDE, Thumbnails, mask_overlay
from tests.unit.dataset_files import save_image, write_captions


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    data = tmp_path / "data"
    for number, (name, caption) in enumerate(
        {
            "a": "zog, Red_Hair",
            "b": "a robot in {red hair, blue|green}",
            "c": None,
            "d": "(red hair:1.2), hat ||| sky",
        }.items()
    ):
        save_image(data / f"{name}.png", (256, 128), (number * 40, 9, 9))
        if caption:
            (data / f"{name}.txt").write_text(caption)
    save_image(data / "e.png", (16, 16), (1, 2, 3))
    save_image(data / "copy.png", (256, 128), (0, 9, 9))
    Image.new("RGBA", (256, 256), (9, 9, 9, 90)).save(data / "f.png")
    (data / "broken.png").write_bytes(b"no image")
    save_image(tmp_path / "more" / "r.png", (256, 256), (5, 5, 5))
    return TrainConfig(
        data_folder=str(data),
        resolution=512,
        concepts=(Concept("zog", aliases=("<robot>",)), Concept("mib")),
        subsets=(Subset(str(tmp_path / "more"), kind="regularization", default_caption="a hill"),),
    )


@pytest.fixture
def cards(config):
    return cards_of(read_dataset(config), config)


def names(cards) -> list[str]:
    return [card.image.path.name for card in cards]


def test_marks_say_what_is_special(cards):
    marks = {card.image.path.name: card.marks for card in cards}
    assert marks["a.png"] == ("small", "copy")
    assert marks["copy.png"] == ("no caption", "no concept", "small", "copy")
    assert marks["e.png"] == ("no caption", "no concept", "tiny")
    assert "transparent" in marks["f.png"] and "unusable" in marks["broken.png"]
    assert marks["r.png"] == ("caption from elsewhere", "regularization")


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (ImageSearch(mark="tiny"), ["e.png"]),
        (ImageSearch(concept="zog"), ["a.png"]),
        (ImageSearch(concept="mib"), []),
        (ImageSearch(tag="RED  hair"), ["a.png", "d.png"]),
        (ImageSearch(tag="red hair", text="SKY"), ["d.png"]),
        (ImageSearch(text="copy.p"), ["copy.png"]),
    ],
)
def test_searches(cards, search, found):
    assert names(found_by(search, cards)) == found


def test_an_empty_search_finds_all(cards):
    assert found_by(ImageSearch(), cards) == list(cards)


def test_tags_are_counted(cards):
    counts = tag_counts(cards)
    assert counts[0] == ("red hair", 2)
    assert ("a robot in {red hair, blue|green}", 1) in counts
    assert dict(tag_counts(found_by(ImageSearch(concept="zog"), cards))) == {"zog": 1, "red hair": 1}


def test_thumbnails_are_small_and_made_once(config, tmp_path, monkeypatch):
    images = read_dataset(config).images
    thumbnails = Thumbnails(tmp_path / "cache", "white")
    first = thumbnails.of(images)
    by_name = {image.path.name: data for image, data in zip(images, first, strict=True)}
    assert by_name["broken.png"] == b""
    small = Image.open(io.BytesIO(by_name["a.png"]))
    assert (small.format, small.size) == ("JPEG", (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2))
    assert Image.open(io.BytesIO(by_name["e.png"])).size == (16, 16)
    red = Image.open(io.BytesIO(by_name["f.png"])).convert("RGB").getpixel((5, 5))[0]
    assert 150 < red < 190, "transparent parts show the background"
    monkeypatch.setattr("lib_pivotal.core.data.thumbnail.read_image", lambda data: 1 / 0)
    assert thumbnails.of(images) == first
    assert Thumbnails(tmp_path / "cache", "white").of(images) == first


def test_the_overlay_of_a_mask_is_red_where_it_leaves_out(tmp_path):
    save_image(tmp_path / "a.png", (64, 64))
    mask = Image.new("L", (64, 64), 255)
    mask.paste(0, (0, 0, 32, 64))
    mask.save(tmp_path / "a-masklabel.png")
    (image,) = read_dataset(TrainConfig(data_folder=str(tmp_path), resolution=64, masks="masklabel")).images
    overlay = Image.open(io.BytesIO(mask_overlay(image.mask)))
    assert (overlay.mode, overlay.size) == ("RGBA", (8, 8))
    assert overlay.getpixel((0, 0))[3] > 100 and overlay.getpixel((7, 7))[3] == 0


def test_changes_between_two_readings_are_found(tmp_path):
    config = TrainConfig(data_folder=str(tmp_path), resolution=64)
    write_captions(tmp_path, "one", "two", "three", "four")
    before = read_dataset(config)
    assert changes_between(before, read_dataset(config)).is_empty
    (tmp_path / "a0.png").unlink()
    (tmp_path / "a1.txt").write_text("other")
    save_image(tmp_path / "a2.png", color=(9, 9, 200))
    save_image(tmp_path / "new.png", color=(9, 200, 9))
    found = changes_between(before, read_dataset(config))
    assert (found.added, found.removed) == (("new.png",), ("a0.png",))
    assert (found.redrawn, found.recaptioned) == (("a2.png",), ("a1.png",))
