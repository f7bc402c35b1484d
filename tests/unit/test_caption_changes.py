"""Changes to captions: only what was asked for changes, and every kind of syntax survives."""

from __future__ import annotations

import pytest

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.data.caption_changes import CaptionChange, CaptionChanger, plain_tags
from lib_pivotal.core.errors import ConfigError

CONCEPTS = (Concept("zog", aliases=("robot boy",)), Concept("mib"))
WIDE_COMMA = "\uff0c"


def changed(caption: str, action: str, tags: str = "", replacement: str = "", **settings) -> str:
    is_pattern = settings.pop("is_pattern", False)
    config = TrainConfig(concepts=CONCEPTS, **settings)
    return CaptionChanger(config, CaptionChange(action, tags, replacement, is_pattern)).changed(caption)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("hat, sky", "zog, tall, hat, sky"),
        ("", "zog, tall"),
        ("  hat\n", "  zog, tall, hat\n"),
        ("hat\r\n\r\nsky\r\n", "zog, tall, hat\r\n\r\nzog, tall, sky\r\n"),
        ("Zog, hat", "tall, Zog, hat"),
        ("hat, (zog:1.2), TALL", "hat, (zog:1.2), TALL"),
        ("||| hat", "zog, tall ||| hat"),
        ("hat ||| sky", "zog, tall, hat ||| sky"),
    ],
)
def test_tags_are_added_in_front_of_every_line_that_lacks_them(caption, expected):
    assert changed(caption, "add_front", "zog, tall") == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("hat, sky", "hat, sky, night"),
        ("hat,", "hat, night"),
        ("hat\nsky\n", "hat, night\nsky, night\n"),
        ("a ||| b ||| c ", "a ||| b ||| c, night "),
        ("hat\nNegative prompt: x\nSteps: 20, Sampler: y", "hat, night\nNegative prompt: x\nSteps: 20, Sampler: y"),
        ("", "night"),
        ("Steps: 20, Sampler: y", "night\nSteps: 20, Sampler: y"),
    ],
)
def test_tags_are_added_at_the_end_of_every_line(caption, expected):
    assert changed(caption, "add_end", "night") == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("zog,  Red_Hair , hat", "zog, hat"),
        ("red hair, zog\nzog, horns\nred hair", "zog\nzog, horns"),
        ("zog ||| red hair, hat ||| horns", "zog ||| hat ||| horns"),
        ("red hair ||| zog ||| horns", "||| zog ||| horns"),
        ("zog ||| red hair", "zog |||"),
        ("zog |||", "zog |||"),
        ("red hair ||| red hair", ""),
        ("sky;;;red hair;;;cloud", "sky;;;cloud"),
        ("hat, red hair;;;cloud", "hat, cloud"),
        ("zog, (red hair:1.2), hat", "zog, hat"),
        ("{red hair, blue eyes|green eyes}, red hair", "{red hair, blue eyes|green eyes}"),
        ("a red hair thing, hat", "a red hair thing, hat"),
        ("red hair", ""),
        ("zog, hat", "zog, hat"),
        (f"zog{WIDE_COMMA}red hair{WIDE_COMMA}hat", f"zog{WIDE_COMMA}hat"),
    ],
)
def test_whole_tags_are_removed_and_the_rest_stays(caption, expected):
    assert changed(caption, "remove", "red hair, night") == expected


def test_brackets_around_several_tags_stay_if_brackets_weigh_tags():
    assert changed("zog, ((red hair, hat)), sky", "remove", "red hair", emphasis=True) == "zog, ((hat)), sky"


def test_patterns_remove_and_replace():
    caption = "zog, red hair, blue hair, hat"
    assert changed(caption, "remove", r"^(red|blue) hair$", is_pattern=True) == "zog, hat"
    assert changed(caption, "replace", r"^(\w+) hair$", r"hair of \1", is_pattern=True) == (
        "zog, hair of red, hair of blue, hat"
    )


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("zog, Hat , sky", "zog, cap , sky"),
        ("zog, (hat:1.3)", "zog, (cap:1.3)"),
        ("top hat", "top hat"),
        ("hat;;;sky ||| hat", "cap;;;sky ||| cap"),
        ("{hat|cap}, hat", "{hat|cap}, cap"),
    ],
)
def test_a_tag_is_replaced_as_a_whole(caption, expected):
    assert changed(caption, "replace", "hat", "cap") == expected


def test_an_empty_replacement_removes():
    assert changed("zog, hat, sky", "replace", "hat", "") == "zog, sky"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("zog, hat, Hat, sky, (hat:1.2)", "zog, hat, sky"),
        ("zog, hat\nzog, sky", "zog, hat\nzog, sky"),
        ("zog ||| hat, zog", "zog ||| hat"),
        ("{a|b}, {a|b}", "{a|b}, {a|b}"),
    ],
)
def test_repeated_tags_are_removed_within_a_line(caption, expected):
    assert changed(caption, "dedupe") == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("hat,  sky , zog", "zog,  hat , sky"),
        ("zog, hat", "zog, hat"),
        ("hat, robot boy, mib\nsky, mib", "robot boy, mib, hat\nmib, sky"),
        ("best ||| sky;;;cloud, zog ||| night", "best ||| zog, sky;;;cloud ||| night"),
        ("hat, {zog|mib}", "{zog|mib}, hat"),
    ],
)
def test_concepts_come_first_within_their_part(caption, expected):
    assert changed(caption, "concepts_first") == expected


def test_with_choices_off_line_breaks_and_braces_are_plain_text():
    assert changed("hat\nsky, {a, b|c}", "add_end", "x", random_choices=False) == "hat\nsky, {a, b|c}, x"
    assert changed("{a, b|c}", "remove", "b|c}", random_choices=False) == "{a"


@pytest.mark.parametrize(
    ("action", "tags", "replacement", "word"),
    [
        ("add_front", " , ", "", "No tag"),
        ("remove", "", "", "No tag"),
        ("replace", "", "x", "No tag"),
        ("explode", "x", "", "unknown"),
    ],
)
def test_what_cannot_be_done_is_said(action, tags, replacement, word):
    with pytest.raises(ConfigError, match=word):
        changed("a", action, tags, replacement)


@pytest.mark.parametrize(("pattern", "replacement"), [("(", ""), ("a", r"\9"), ("[z-a]", "")])
def test_an_invalid_pattern_is_explained(pattern, replacement):
    with pytest.raises(ConfigError, match="regular expression"):
        changed("a", "replace", pattern, replacement, is_pattern=True)


def test_the_tags_of_a_caption_are_listed_as_they_are_searched():
    config = TrainConfig(concepts=CONCEPTS)
    assert plain_tags("Zog, Red_Hair\nhat ||| sky;;;(cloud:1.2), {a, b|c}, hat", config) == (
        "zog", "red hair", "hat", "sky", "cloud", "{a, b|c}",
    )  # fmt: skip
