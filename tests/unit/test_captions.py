"""From the caption of an image to what a step trains: choices, templates, names, separators, dropout, rates."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.caption import CaptionMaker
from lib_pivotal.core.data.caption_choices import Choices, unused_braces
from lib_pivotal.core.data.caption_names import NameFinder
from lib_pivotal.core.data.caption_tags import is_emoticon
from lib_pivotal.core.data.folder_captions import mostly_underscores
from lib_pivotal.core.data.token_count import TokenCounter, chunks_of
from tests.unit.toy import ToyEncoder

GOLDEN = Path(__file__).parent / "golden" / "captions.json"
ZOG, MIB = Concept("zog", aliases=("teal robot",)), Concept("mib")
PLAIN = {"shuffle_tags": False, "tag_dropout": 0.0, "name_only": 0.0, "caption_dropout": 0.0}


def maker(*concepts, subset=None, prune=None, spaces=False, **changes) -> CaptionMaker:
    return CaptionMaker(concepts or (ZOG,), TrainConfig(**{**PLAIN, **changes}), subset, prune=prune, spaces=spaces)


def draws(make: CaptionMaker, caption: str, count: int = 1000, progress: float = 1.0) -> list[str]:
    return [make.vary(caption, random.Random(seed), progress) for seed in range(count)]


def share(texts: list[str], tag: str) -> float:
    return sum(tag in text.split(", ") for text in texts) / len(texts)


def test_plain_captions_are_what_they_were_before_there_was_caption_syntax():
    """Text and random numbers must stay the same, or runs from before could not be resumed exactly."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    concepts = tuple(Concept(item["name"], aliases=tuple(item["aliases"])) for item in golden["concepts"])
    for item in golden["captions"]:
        for subset in (None, Subset()):
            make = CaptionMaker(concepts, TrainConfig(concepts=concepts, **item["settings"]), subset)
            for seed, expected in enumerate(item["drawn"]):
                rng = random.Random(seed)
                assert [make.vary(item["caption"], rng), rng.random()] == expected


def test_an_alias_in_angle_brackets_is_found_in_any_text():
    make = maker(Concept("zog", aliases=("<zog>", "girl")))
    for text, expected in [("a <Zog> robot", "a zog robot"), ("red<zog>", "redzog"), ("magical girl", "magical girl")]:
        assert make.full(f"{text}, hat") == f"{expected}, hat"


# -- lines and choices


def test_each_line_is_an_alternative_with_prefix_and_suffix():
    make = maker(subset=Subset(caption_prefix="best", caption_suffix="end"))
    seen = Counter(draws(make, "zog, hat\r\n\n  zog in a hat\n", 400))
    assert set(seen) == {"best, zog, hat, end", "best, zog in a hat, end"}
    assert all(160 <= count <= 240 for count in seen.values())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("zog, {red|blue} hat, {{x}}", {"zog, red hat, {x}", "zog, blue hat, {x}"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{{a|b}|c}", {"a", "b", "c"}),
        ("{{a|b}}", {"{a|b}"}),
        ("{abc}", {"{abc}"}),
        ("{a|b", {"{a|b"}),
        ("}{ a | b", {"}{ a | b"}),
        ("{a ||| b|c}", {"a ||| b", "c"}),
        ("a{ big|} hat", {"a big hat", "a hat"}),
    ],
)
def test_choices_may_be_nested_and_doubled_braces_are_braces(line, expected):
    choices = Choices(line)
    assert {choices.text(random.Random(seed).randrange) for seed in range(60)} == expected


def test_choices_are_uniform_and_limited():
    seen = Counter(draws(maker(), "{red|blue|green} hat"))
    assert all(270 < count < 400 for count in seen.values()) and len(seen) == 3
    assert Choices("{a|b}" * 40).count == 32
    assert Choices("{a|b}" * 40).text(lambda _: 0) == "a" * 32 + "{a|b}" * 8
    assert [unused_braces(text) for text in ("{abc}", "{a|b}", "{{x}}")] == ["{abc}", None, None]


def test_without_the_setting_lines_and_braces_are_plain_text():
    assert set(draws(maker(random_choices=False), "{red|blue} hat, {{x}}", 50)) == {"{red|blue} hat, {{x}}"}


def test_a_concept_in_any_line_or_option_is_mentioned():
    make = maker(ZOG, MIB)
    assert make.concepts_in("{teal robot|{mib|cat}}, hat") == {"zog", "mib"}
    assert make.concepts_in("a hat\nmib, hat") == {"mib"}
    assert make.outlook("zog\nmib").is_always_named and not make.outlook("zog\nhat").is_always_named
    assert make.outlook("zog, {hat|a very tall tree}\nmib").longest == "zog, a very tall tree"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["{", "{|", "{a|b}", "}", "|", "{{", "a\n", ";;;", "|||", "(", ",", "_"])
def test_hostile_captions_cost_no_time(piece):
    make = maker(ZOG, MIB, emphasis=True, underscores="spaces", drop_tags=("/^a$/", "b"))
    caption = piece * (60_000 // len(piece))
    make.concepts_in(caption)
    make.vary(caption, random.Random(0))


# -- templates, prefix, names that always apply


def template_file(folder: Path, *lines: str) -> str:
    (folder / "templates.txt").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "templates.txt")


def test_each_step_chooses_a_template(tmp_path):
    path = template_file(tmp_path, "a photo of [name], [filewords]", "", "<embedding> in {color|ink}, {caption}")
    make = maker(caption_template=path)
    seen = Counter(draws(make, "teal robot, hat", 900))
    assert set(seen) == {"a photo of zog, hat", "zog in color, hat", "zog in ink, hat"}
    assert 400 < seen["a photo of zog, hat"] < 500
    assert set(draws(make, "", 50)) == {"a photo of zog", "zog in color", "zog in ink"}


def test_a_template_takes_the_names_of_the_folder_or_else_of_the_caption(tmp_path):
    path = template_file(tmp_path, "a photo of [trigger], [filewords]")
    make = maker(ZOG, MIB, caption_template=path)
    assert make.full("mib, teal robot, hat") == "a photo of mib, zog, hat"
    assert make.full("hat") == "a photo of, hat"
    own = maker(ZOG, MIB, subset=Subset(always=("mib",)), caption_template=path)
    assert own.full("hat") == "a photo of mib, hat"


def test_a_caption_in_a_template_is_not_taken_for_a_template(tmp_path):
    make = maker(ZOG, MIB, caption_template=template_file(tmp_path, "[filewords]"))
    assert make.full(r"mib, {{caption}}, \1") == r"mib, {caption}, \1"


def test_names_that_always_apply_are_added_once_and_only_if_absent():
    make = maker(ZOG, MIB, subset=Subset(always=("mib", "teal robot")))
    assert make.full("hat") == "mib, zog, hat"
    assert make.full("a photo of a teal robot") == "mib, a photo of a zog"
    assert make.full("") == "mib, zog"
    assert make.concepts_in("hat") == {"mib", "zog"}
    only = maker(ZOG, MIB, subset=Subset(always=("mib",)), name_only=1.0)
    assert only.vary("hat", random.Random(0)) == "mib"


def test_placeholders_in_captions_are_the_folders_name():
    make = maker(ZOG, MIB, subset=Subset(always=("mib",), caption_suffix="by [name]"))
    assert make.full("[trigger] on a hill, hat") == "mib on a hill, hat, by mib"
    assert maker(ZOG).full("a [name], hat") == "a zog, hat"
    assert maker(ZOG, MIB).full("a [name], hat") == "a [name], hat"


def test_a_name_in_the_prefix_is_not_repeated():
    make = maker(subset=Subset(caption_prefix="zog, best", caption_suffix="zog"))
    assert make.full("zog, hat") == "zog, best, hat"
    assert make.full("a zog with a hat, tree") == "zog, best, a zog with a hat, tree"
    assert make.full("hat") == "zog, best, hat"


def test_prefix_and_suffix_stay_in_place_and_are_never_dropped():
    make = maker(subset=Subset(caption_prefix="best, art", caption_suffix="end"), shuffle_tags=True, tag_dropout=0.5)
    texts = draws(make, "hat, teal robot, tree, sky", 200)
    assert len(set(texts)) == 16
    assert all(text.startswith("best, art, zog") and text.endswith(", end") for text in texts)


# -- kept tags, groups


def test_the_keep_separator_has_its_meaning_without_shuffling_too():
    assert maker().full("zog ||| hat, tree, sky ||| night") == "zog, hat, tree, sky, night"
    assert set(draws(maker(), "hat ||| tree, teal robot, sky ||| night", 20)) == {"hat, zog, tree, sky, night"}
    make = maker(shuffle_tags=True, tag_dropout=0.3)
    texts = [text.split(", ") for text in draws(make, "old, zog ||| hat, tree, sky ||| night", 400)]
    assert all(text[:2] == ["old", "zog"] and text[-1] == "night" and "|||" not in str(text) for text in texts)
    middles = {tuple(text[2:-1]) for text in texts}
    assert {("sky", "tree", "hat"), ("tree", "hat", "sky"), ("hat",), ()} <= middles


def test_a_separator_in_the_prefix_is_the_first_one():
    make = maker(subset=Subset(caption_prefix="zog |||"), shuffle_tags=True)
    assert {text.split(", ")[0] + text.split(", ")[-1] for text in draws(make, "a, b, c ||| d", 50)} == {"zogd"}


def test_the_first_tags_stay_in_front():
    make = maker(subset=Subset(keep_first=2), shuffle_tags=True, tag_dropout=0.5)
    texts = [text.split(", ") for text in draws(make, "a, b, c, d, zog", 100)]
    assert all(text[:3] == ["a", "b", "zog"] for text in texts) and len({tuple(text) for text in texts}) > 4


def test_groups_stay_together_and_are_dropped_together():
    make = maker(shuffle_tags=True, tag_dropout=0.5)
    texts = draws(make, "zog, sky;;;cloud, hat, tree", 400)
    assert all(("sky, cloud" in text) == ("sky" in text) == ("cloud" in text) for text in texts)
    assert share(texts, "sky") == pytest.approx(0.5, abs=0.08)
    assert maker().full("hat, red;;;teal robot;;;old") == "red, zog, old, hat"
    assert maker(group_separator="").full("sky;;;cloud, hat") == "sky;;;cloud, hat"


# -- removed and protected tags


def test_listed_tags_are_removed_and_names_never_are():
    make = maker(drop_tags=("Red Hat", "/ hair$/", "zog"))
    assert make.full("zog, red_hat, (red hat:1.2), long_hair, hair ribbon, hat") == "zog, hair ribbon, hat"
    assert make.draw("red_hat, hat", random.Random(0)).removed == ("red_hat",)
    assert make.full("red hat;;;tree, zog ||| red hat ||| long hair") == "tree, zog"


def test_core_tags_are_removed_by_the_function_that_knows_them():
    asked = []

    def prune(tags, names):
        asked.append((list(tags), list(names)))
        return [tag for tag in tags if "hair" not in tag]

    make = maker(ZOG, MIB, prune=prune, drop_tags=("sky",))
    assert make.full("mib, teal robot, red_hair;;;hat, sky, ((long hair))") == "mib, zog, hat"
    assert asked == [(["red_hair", "hat", "sky", "long hair"], ["mib", "zog"])]
    # Each caption is parsed once.
    draws(make, "mib, teal robot, red_hair;;;hat, sky, ((long hair))", 5)
    assert len(asked) == 1


def test_dropout_spares_protected_tags_and_grows_with_the_position_if_asked():
    caption = "zog, a, b, c, d, e"
    texts = draws(maker(tag_dropout=0.4, protected_tags=("c", "/^d$/")), caption)
    assert share(texts, "c") == share(texts, "d") == share(texts, "zog") == 1.0
    assert all(share(texts, tag) == pytest.approx(0.6, abs=0.05) for tag in "abe")
    texts = draws(maker(tag_dropout=0.4, tag_dropout_by_position=True), caption)
    rates = [share(texts, tag) for tag in "abcde"]
    assert rates == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2], abs=0.05)


def test_warm_up_grows_captions_from_the_first_tag_to_all():
    make = maker(subset=Subset(caption_suffix="end"))
    caption = "zog, a, b, c, d, e"
    seen = [make.vary(caption, random.Random(0), progress) for progress in (0.0, 0.25, 0.6, 0.99, 1.0)]
    assert seen == [
        f"zog, {tags}, end" for tags in ("a", "a, b", "a, b, c", "a, b, c, d", "a, b, c, d, e")
    ]  # fmt: skip


# -- empty, names only, full


def test_kinds_are_as_frequent_as_the_settings_say():
    make = maker(ZOG, MIB, caption_dropout=0.2, name_only=0.3, single_name=0.5, tag_dropout=0.1)
    drawn = [make.draw("teal robot, mib, hat", random.Random(seed)) for seed in range(1000)]
    kinds = Counter(item.kind for item in drawn)
    assert kinds["empty"] / 1000 == pytest.approx(0.2, abs=0.04)
    assert kinds["names"] / 1000 == pytest.approx(0.3, abs=0.04)
    names = Counter(item.text for item in drawn if item.kind == "names")
    assert set(names) == {"zog, mib", "zog", "mib"}
    assert names["zog, mib"] / kinds["names"] == pytest.approx(0.5, abs=0.1)
    full = [item.text for item in drawn if item.kind == "full"]
    assert share(full, "hat") == pytest.approx(0.9, abs=0.04)
    assert all(item.text == "" and item.tags == () for item in drawn if item.kind == "empty")


def test_names_only_keeps_all_names_by_default():
    assert set(draws(maker(ZOG, MIB, name_only=1.0), "teal robot, mib, hat", 50)) == {"zog, mib"}


# -- underscores, brackets


def test_underscores_become_spaces_except_in_names_and_emoticons():
    make = maker(Concept("zog_v1", aliases=("teal_robot",)), underscores="spaces")
    caption = "teal_robot, a zog_v1 with_a red_hat, long_hair, ^_^, o_o, >_<"
    assert make.full(caption) == "zog_v1, a zog_v1 with a red hat, long hair, ^_^, o_o, >_<"
    assert maker(underscores="keep", spaces=True).full("long_hair") == "long_hair"
    assert maker(spaces=True).full("long_hair, zog") == "zog, long hair"
    assert maker().full("long_hair, zog") == "zog, long_hair"


def test_underscores_are_usual_where_more_than_half_of_the_tags_have_them():
    finder = NameFinder([Concept("zog_v1")])
    assert mostly_underscores(["zog_v1, long_hair, red_hat", "blue_sky, solo"], finder)
    assert not mostly_underscores(["zog_v1, long_hair, hat, ^_^", "zog_v1, o_o"], finder)
    assert not mostly_underscores(["a_b, cat", ""], finder)
    assert not mostly_underscores([], finder)


@pytest.mark.parametrize("tag", ["o_o", "^_^", ">_<", "=_=", "@_@", "0_0", ";_;", "<o>_<o>", "(o)_(o)", "._.", "|_|"])
def test_emoticons_are_recognized(tag):
    assert is_emoticon(tag)


@pytest.mark.parametrize("tag", ["long_hair", "uh_oh", "hat_(red)", "a_long", "x_files", "o_o_o hat"])
def test_tags_are_not_taken_for_emoticons(tag):
    assert not is_emoticon(tag)


def test_with_emphasis_brackets_stay_for_the_encoder_and_hold_tags_together():
    make = maker(emphasis=True, shuffle_tags=True, drop_tags=("blue eyes",))
    texts = draws(make, r"(teal robot:1.2), ((long hair, red hat:1.3)), hat \(old\), tree", 50)
    assert all("((long hair, red hat:1.3))" in text and r"hat \(old\)" in text for text in texts)
    assert {text.split(", ")[0] for text in texts} == {"(zog:1.2)"}
    assert make.full("((blue eyes, hat:1.2)), tree") == "((hat:1.2)), tree"
    assert make.full("((hat, blue eyes:1.2)), tree") == "((hat:1.2)), tree"
    assert make.full("((blue eyes:1.2)), tree") == "tree"
    assert make.full("hat, :(, tree") == r"hat, :\(, tree"
    saber = maker(Concept("zog", aliases=("saber (fate)",)), emphasis=True)
    assert saber.full(r"a photo of saber \(fate\) in a park") == "a photo of zog in a park"


# -- tokens


def test_a_name_counts_as_its_vectors():
    tokenize = ToyEncoder().tokenize
    concepts = (Concept("zog_v1", vectors=6), Concept("mib", vectors=0, init_text="a small cat"))
    counter = TokenCounter(tokenize, concepts)
    assert counter.count("a red hat") == 3
    assert counter.count("a zog_v1, hat") == 1 + 6 + 1 + 1
    assert counter.count("mib mib") == 6
    assert counter.count("") == 0
    assert [chunks_of(count) for count in (0, 75, 76, 151)] == [1, 1, 2, 3]
