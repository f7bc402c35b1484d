"""Core tags found in captions, and which captions lose them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.core_tags.pruning import pruner_for
from lib_pivotal.core.core_tags.suggestion import apply, suggest
from lib_pivotal.core.core_tags.tag_classes import load_tag_classes
from lib_pivotal.core.core_tags.tagged_image import people_in, tagged_images
from lib_pivotal.core.data.scan import DatasetImage

CLASSES = load_tag_classes()
BOTH = (Concept("zog", vectors=8), Concept("mib", vectors=8))


def images(*captions: str, always: tuple[str, ...] = ()) -> list[DatasetImage]:
    return [
        DatasetImage(Path(f"{number}.png"), caption, 1.0, 64, 64, f"{number}.png", subset=Subset(always=always))
        for number, caption in enumerate(captions)
    ]


def zog_alone(number: int) -> str:
    tags = ["zog", "1girl", "hat"]
    tags += ["red hair"] if number < 18 else []
    tags += ["horns"] if number % 5 else []
    tags += ["smile"] if number % 2 and number < 18 else []
    return ", ".join([*tags, f"thing {number}"])


ZOG_AND_MIB = [zog_alone(number) for number in range(20)] + [f"mib, 1boy, blue hair, {n}" for n in range(20)]


def found(captions: list[str], *concepts: Concept, **options):
    config = TrainConfig(concepts=concepts or BOTH)
    return suggest(config, images(*captions), CLASSES, **options)


def rows(captions: list[str], *concepts: Concept):
    first = found(captions, *concepts).concepts[0]
    return {row.tag: row for row in first.rows}


def test_what_never_changes_is_suggested():
    suggestions = found(ZOG_AND_MIB)
    zog, mib = suggestions.concepts
    assert zog.ticked == ("red hair", "horns") and mib.ticked == ("blue hair",)
    table = {row.tag: row for row in zog.rows}
    assert table["hat"].state == "asked" and "Always worn" in table["hat"].hint
    assert "smile" not in table and table["1girl"].state == "never"
    red = table["red hair"]
    assert (red.tag_class, red.count, red.share, red.elsewhere, red.removed) == ("hair color", 18, 0.9, 0.0, 18)
    assert (zog.images, zog.alone) == (20, 20)


def test_the_initialization_text_is_always_the_same():
    texts = {tuple(item.init_text for item in found(ZOG_AND_MIB).concepts) for _ in range(10)}
    assert texts == {("girl red hair horns", "boy blue hair")}


def test_only_whole_tags_that_fit_become_initialization_text():
    assert found(ZOG_AND_MIB, Concept("zog", vectors=3), BOTH[1]).concepts[0].init_text == "girl red hair"
    assert found(ZOG_AND_MIB, Concept("zog", vectors=2), BOTH[1]).concepts[0].init_text == "girl horns"
    by_letters = found(ZOG_AND_MIB, Concept("zog", vectors=10), BOTH[1], tokenizer=lambda text: [0] * len(text))
    assert by_letters.concepts[0].init_text == "girl horns"
    own = Concept("zog", vectors=8, class_noun="teal robot", core_tags=("Pointy_Ears", "fox (fluffy)"))
    assert found(ZOG_AND_MIB, own, BOTH[1]).concepts[0].init_text == "teal robot pointy ears fox"


@pytest.mark.parametrize(
    ("caption", "kept"),
    [
        ("zog, mib, red hair, blue hair, park", "zog, mib, park"),
        ("zog, mib, 2girls, red hair, blue hair", "zog, mib, 2girls"),
        ("zog, mib, 3girls, red hair, blue hair", "zog, mib, 3girls, red hair, blue hair"),
        ("zog, 2girls, red hair, hat", "zog, 2girls, red hair, hat"),
        ("zog, multiple girls, red hair", "zog, multiple girls, red hair"),
        ("zog, Red_Hair, (horns:1.2), park", "zog, park"),
        ("zog, ((red hair, park))", "zog, ((red hair, park))"),
        ("mib, red hair, blue hair", "mib, red hair"),
        ("red hair, park", "red hair, park"),
        (
            "zog with red hair, red hair, a girl with red hair is here",
            "zog with red hair, a girl with red hair is here",
        ),
    ],
)
def test_tags_that_only_the_concept_can_own_are_left_out(caption, kept):
    config = TrainConfig(
        concepts=(Concept("zog", core_tags=("red hair", "horns")), Concept("mib", core_tags=("blue_hair",)))
    )
    pruner = pruner_for(config, images(*ZOG_AND_MIB))
    tags = caption.split(", ")
    names = [name for name in ("zog", "mib") if name in caption]
    assert ", ".join(pruner(tags, names)) == kept


def test_the_examples_of_the_documents_are_true():
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\| `(zog, [^`]+)` \| `([^`]+)` \|$", text, re.MULTILINE)
    concepts = (Concept("zog", core_tags=("red hair", "horns")), Concept("mib", core_tags=("blue hair",)))
    pruner = pruner_for(TrainConfig(concepts=concepts), images(*ZOG_AND_MIB))
    assert len(examples) == 3
    for before, after in examples:
        names = [name for name in ("zog", "mib") if name in before]
        assert ", ".join(pruner(before.split(", "), names)) == after


def test_a_tag_that_another_concept_has_without_owning_it_stays():
    captions = [*ZOG_AND_MIB, "mib, red hair, wig"]
    config = TrainConfig(concepts=(Concept("zog", core_tags=("red hair", "horns")), Concept("mib")))
    pruner = pruner_for(config, images(*captions))
    assert pruner(["zog", "mib", "red hair", "horns"], ["zog", "mib"]) == ["zog", "mib", "red hair"]
    # Nothing is known about somebody who is never alone.
    pair = TrainConfig(concepts=(*config.concepts, Concept("tuk")))
    assert pruner_for(pair, images(*captions, "zog, tuk, horns"))(["horns"], ["zog", "tuk"]) == ["horns"]


def test_a_name_is_never_left_out():
    config = TrainConfig(concepts=(Concept("zog", core_tags=("zog", "red hair")),))
    assert pruner_for(config, images("zog, red hair"))(["zog", "red hair"], ["zog"]) == ["zog"]


def test_nothing_is_pruned_unless_asked():
    data = images("zog, red hair")
    assert pruner_for(TrainConfig(concepts=(Concept("zog"),)), data) is None
    off = TrainConfig(concepts=(Concept("zog", core_tags=("red hair",)),), prune_core_tags=False)
    assert pruner_for(off, data) is None


def test_two_looks_are_not_suggested_but_shown():
    captions = [f"zog, {'short' if n < 10 else 'long'} hair, horns, thing {n}" for n in range(20)]
    zog = found(captions, Concept("zog")).concepts[0]
    assert zog.ticked == ("horns",)
    states = {row.tag: row.state for row in zog.rows}
    assert states == {"horns": "ticked", "short hair": "asked", "long hair": "asked"}
    assert any("more than one look: long hair and short hair" in hint for hint in zog.hints)
    assert [(len(look.images), look.tags) for look in zog.looks] == [(10, ("short hair",)), (10, ("long hair",))]
    assert any("zog_form1 (10 images: short hair)" in hint for hint in zog.hints)


def test_colors_that_are_seen_together_are_one_look():
    captions = [f"zog, two-tone hair, red hair, black hair, {n}" for n in range(10)]
    assert found(captions, Concept("zog")).concepts[0].ticked == ("black hair", "red hair", "two-tone hair")


def test_what_only_one_look_has_is_asked():
    captions = [f"zog, hat, cape, red hair, horns, {n}" for n in range(12)]
    captions += [f"zog, swimsuit, sandals, red hair, {n}" for n in range(8)]
    zog = found(captions, Concept("zog")).concepts[0]
    assert zog.ticked == ("red hair",) and len(zog.looks) == 2
    assert "Not all looks" in next(row.hint for row in zog.rows if row.tag == "horns")


def test_too_few_images_alone_are_said():
    captions = [f"zog, mib, red hair, horns, {n}" for n in range(8)] + [f"mib, horns, {n}" for n in range(5)]
    zog = found(captions).concepts[0]
    assert (zog.images, zog.alone) == (8, 0) and "Only 0 images show it alone, so all 8" in zog.hints[0]
    # mib has horns when alone and never red hair.
    states = {row.tag: row.state for row in zog.rows}
    assert states == {"red hair": "ticked", "horns": "asked"}
    unknown = rows(captions[:8])
    assert unknown["red hair"].state == "asked" and "whose it is" in unknown["red hair"].hint


def test_people_who_are_not_named_are_not_the_concept():
    captions = [f"zog, 2girls, blue hair, {n}" for n in range(5)] + [
        f"zog, 1girl, solo, red hair, {n}" for n in range(5)
    ]
    assert found(captions, Concept("zog")).concepts[0].ticked == ("red hair",)


def test_a_style_gets_no_core_tags():
    captions = [f"inky, zog, 1girl, red hair, {n}" for n in range(6)] + [f"zog, 1girl, red hair, {n}" for n in range(6)]
    zog, inky = found(captions, Concept("zog"), Concept("inky", class_noun="art style")).concepts
    assert zog.ticked == ("red hair",) and zog.alone == 12
    assert not inky.ticked and not inky.init_text
    zog, inky = found(captions, Concept("zog"), Concept("inky")).concepts
    assert zog.alone == 6 and not inky.ticked and "set its class to style" in inky.hints[0]


def test_prose_is_left_out_and_too_much_of_it_ends_the_search():
    prose = [f"A photo of zog with red hair and a hat, who is walking through park number {n}." for n in range(9)]
    tags = [f"zog, red hair, {n}" for n in range(10)]
    some = found([*tags, *prose], Concept("zog"))
    assert (some.captions, some.prose, some.concepts[0].images) == (19, 9, 10)
    off = found([*tags[:8], *prose], Concept("zog"))
    assert not off.concepts and "9 of 17 captions are sentences" in off.reason
    assert found([], Concept("zog")).reason and suggest(TrainConfig(), images("a, b"), CLASSES).reason


def test_names_that_always_apply_count():
    config = TrainConfig(concepts=(Concept("zog"),))
    data = images(*(f"red hair, {n}" for n in range(4)), always=("zog", "nobody"))
    assert suggest(config, data, CLASSES).concepts[0].ticked == ("red hair",)


def test_lines_groups_and_emphasis_are_tags():
    (image,) = tagged_images(
        images("zog ||| (red hair:1.2), sky;;;cloud\nfox (animal)"), TrainConfig(concepts=(Concept("zog"),))
    )
    assert list(image.tags) == ["red hair", "sky", "cloud", "fox (animal)"]
    assert image.names == {"zog"} and not image.is_prose


@pytest.mark.parametrize(
    ("tags", "count"),
    [("1girl", 1), ("2girls 1boy", 3), ("solo", 1), ("6+girls", 6), ("multiple_girls", None), ("hat", None)],
)
def test_people_are_counted(tags, count):
    assert people_in(tags.split()) == count
    assert people_in(["no humans"]) == 0 and people_in(["multiple girls"]) > 10


def test_applying_fills_only_what_is_empty():
    config = TrainConfig(concepts=(Concept("zog", init_text="my own"), Concept("mib", core_tags=("mine",))))
    suggestions = suggest(config, images(*ZOG_AND_MIB), CLASSES)
    zog, mib = apply(config, suggestions).concepts
    assert (zog.core_tags, zog.init_text) == (("red hair", "horns"), "my own")
    assert (mib.core_tags, mib.init_text) == (("mine",), "boy mine")
    zog, mib = apply(config, suggestions, replaces=True).concepts
    assert zog.init_text == "girl red hair horns" and mib.core_tags == ("blue hair",)
