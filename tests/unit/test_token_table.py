"""Which embedding a name means: collisions, other families, options, names next to punctuation."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import torch

from lib_pivotal.core.bundle.embeddings import BundledEmbedding
from lib_pivotal.core.bundle.names import token_key
from lib_pivotal.core.families import family_of_widths
from lib_pivotal.core.prompt_names.names import PunctuationPadding, mentioned_names, why_unusable
from lib_pivotal.core.prompt_names.options import NameOptions, parse_name_options
from lib_pivotal.core.prompt_names.table import ActiveBundle, TokenTable, _refusal, build_table

_WORDS: dict[str, int] = {}
_COMMON = {"art": 794, "masterpiece": 14241}


def _run(text: str) -> tuple[int, ...]:
    """Ids like CLIP's: words, single digits, and runs of punctuation."""
    pieces = re.findall(r"[^\W\d_]+|\d|[^\w\s]+|_+", text.lower())
    return tuple(_COMMON.get(piece) or _WORDS.setdefault(piece, 40_000 + len(_WORDS)) for piece in pieces)


def _runs(text: str) -> tuple[tuple[int, ...], ...]:
    run = _run(text)
    return (run,) if run else ()


def _embedding(name: str, seed: int, **widths: int) -> BundledEmbedding:
    generator = torch.Generator().manual_seed(seed)
    encoders = {key: torch.randn(2, width, generator=generator) for key, width in (widths or {"clip_l": 768}).items()}
    return BundledEmbedding(name, encoders, hash=f"{seed:012x}", vector_count=2)


def _bundle(label: str, options: str = "", **names: int) -> ActiveBundle:
    embeddings = {name: _embedding(name, seed) for name, seed in names.items()}
    return ActiveBundle(label, label + ".safetensors", embeddings, parse_name_options(options.split(":")))


def _table(*bundles: ActiveBundle, disk: tuple[str, ...] = (), wins: bool = False, **widths: int) -> TokenTable:
    on_disk = {_run(name): name for name in disk}
    return build_table(
        bundles,
        widths=widths or {"clip_l": 768},
        tokenize=_runs,
        installed=lambda run: on_disk.get(run, ""),
        bundle_wins=wins,
    )


def _owner(table: TokenTable, text: str) -> tuple[str, str] | None:
    """Label and name in the file of what ``text`` begins with."""
    entry = table.find(_run(text), 0)
    return (entry.label, entry.embedding.name) if entry else None


def test_the_first_mentioned_lora_wins_and_both_can_be_had() -> None:
    for first, second in (("A", "B"), ("B", "A")):
        seeds = {"A": 1, "B": 2}
        table = _table(_bundle(first, s1=seeds[first]), _bundle(second, s1=seeds[second]))
        assert _owner(table, "s1 dog") == (first, "s1")
        assert _owner(table, f"s1@{second}, dog") == (second, "s1")
        assert _owner(table, f"s1@{first}, dog") == (first, "s1")
        assert [notice.name for notice in table.notices] == ["s1"]
        assert f"{first} is used" in table.notices[0].text
        assert f"s1@{second}" in table.notices[0].text


def test_the_same_embedding_in_two_loras_is_not_a_collision() -> None:
    assert not _table(_bundle("A", s1=1), _bundle("B", s1=1)).notices


def test_two_labels_of_one_file_are_one_bundle() -> None:
    once, twice = _bundle("A", s1=1), ActiveBundle("alias", "A.safetensors", {"s1": _embedding("s1", 1)})
    table = _table(once, twice)
    assert _owner(table, "s1@alias") == ("A", "s1")  # s1, then plain text
    assert not table.notices


@pytest.mark.parametrize("wins", [False, True])
def test_an_installed_embedding_wins_unless_the_setting_says_otherwise(wins: bool) -> None:
    table = _table(_bundle("A", s1=1), disk=("S1",), wins=wins)
    assert _owner(table, "s1") == (("A", "s1") if wins else None)
    assert _owner(table, "s1@A") == ("A", "s1")
    (notice,) = table.notices
    assert notice.name == "s1" and ("the LoRA's is used" if wins else "the installed one is used") in notice.text


def test_capitals_make_no_difference() -> None:
    assert _owner(_table(_bundle("A", MyChar=1)), "mychar") == ("A", "MyChar")


def test_the_longer_name_is_found_first() -> None:
    table = _table(_bundle("A", chara1=1, chara10=2))
    assert _owner(table, "chara10") == ("A", "chara10")
    assert _owner(table, "chara1 0") == ("A", "chara10")  # the same tokens
    assert _owner(table, "chara1 dog") == ("A", "chara1")


def test_a_name_cut_off_at_the_end_is_not_a_match() -> None:
    table = _table(_bundle("A", chara1=1))
    assert table.find(_run("chara"), 0) is None


def test_options_rename_and_switch_off() -> None:
    assert _owner(_table(_bundle("A", "ti=off", s1=1)), "s1") is None
    table = _table(_bundle("A", "ti=x_", s1=1), _bundle("B", "ti=s1/hero", s1=2))
    assert _owner(table, "x_s1") == ("A", "s1")
    assert _owner(table, "hero") == ("B", "s1")
    assert _owner(table, "s1") is None
    assert not table.notices


def test_options_are_read_from_a_tag() -> None:
    assert parse_name_options(["x", "0.8", 1.0]) == NameOptions()
    assert parse_name_options(["x", "ti=my_, zog/hat,"]) == NameOptions(prefix="my_", renamed={"zog": "hat"})
    assert parse_name_options(["x", "1", "te=0.5", "ti=Off"]).is_off
    options = parse_name_options(["x", "1", "ti=a/b,C d/e", "ti=pre_"])
    assert [options.name_of(name) for name in ("a", "c D", "other")] == ["b", "e", "pre_other"]
    assert parse_name_options(["x", "ti=a/,/b,"]) == NameOptions()


@pytest.mark.parametrize(
    ("widths", "own", "fits"),
    [
        ({"clip_l": 768}, {"clip_l": 768}, True),
        ({"clip_l": 1024}, {"clip_l": 768}, False),
        ({"clip_l": 768}, {"clip_l": 768, "clip_g": 1280}, False),
        ({"clip_l": 768, "clip_g": 1280}, {"clip_l": 768, "clip_g": 1280}, True),
        ({"clip_l": 768, "clip_g": 1280}, {"clip_l": 768}, False),
        ({"clip_g": 1280}, {"clip_l": 768, "clip_g": 1280}, True),
        ({"clip_l": 1024}, {"clip_h": 1024}, True),
    ],
)
def test_only_vectors_for_the_loaded_model_are_used(widths: dict[str, int], own: dict[str, int], fits: bool) -> None:
    bundle = ActiveBundle("A", "A", {"s1": _embedding("s1", 1, **own)})
    table = _table(bundle, **widths)
    assert (_owner(table, "s1") is not None) == fits
    assert (not table.notices) == fits
    if not fits:
        # It must be seen whatever the prompt says, and name the model's family.
        assert table.notices[0].name == ""
        assert ("SDXL" if "clip_g" in {**own, **widths} else "SD1") in table.notices[0].text


@pytest.mark.parametrize("name", [",", "<>", "art", "masterpiece", "<|endoftext|>", "  "])
def test_names_that_would_match_every_prompt_are_refused_unless_renamed(name: str) -> None:
    assert why_unusable(name, _run(name))
    bundle = ActiveBundle("A", "A", {name: _embedding(name, 1)}, NameOptions(renamed={token_key(name): "art"}))
    assert _owner(_table(bundle), "art") == ("A", name)  # a common word will do where the user asks for it
    table = _table(ActiveBundle("A", "A", {name: _embedding(name, 1)}))
    assert table.find(_run(f"{name} dog"), 0) is None
    if name.strip():
        assert "ti=" in table.notices[0].text


@pytest.mark.parametrize(
    "name",
    ["<embedding>", "masterpiece", "art", ",", "<|endoftext|>", "<a/b>", "a:b", "x=y", '<img src="x">', "<>"],
)
def test_the_remedy_works_as_it_is_printed(name: str) -> None:
    """In a prompt whose tags the webui reads by this pattern, and cuts at colons."""
    refused = _refusal(name, name, "A", "of a reason").text
    (inside,) = re.findall(r"<lora:([^>]+)>\.", refused)
    options = parse_name_options(inside.split(":"))
    assert options.name_of(name) in ("NEW", f"NEW_{name}")


def test_a_rename_may_leave_out_angle_brackets() -> None:
    options = parse_name_options(["A", "1", "ti=embedding/hero"])
    assert options.name_of("<embedding>") == options.name_of("embedding") == "hero"
    exact = NameOptions(renamed={"<s0>": "one", "s0": "two"})
    assert [exact.name_of(name) for name in ("<s0>", "s0")] == ["one", "two"]


@pytest.mark.parametrize("place", [0, 1])
def test_a_name_that_is_a_common_word_for_one_tokenizer_is_refused(place: int) -> None:
    runs = [(40_001, 40_002), (40_003, 40_004)]
    runs[place] = (794,)
    widths = {"clip_l": 768, "clip_g": 1280}
    bundle = ActiveBundle("A", "A", {"ａｒｔ": _embedding("ａｒｔ", 1, **widths)})
    table = build_table([bundle], widths=widths, tokenize=lambda name: [] if "@" in name else runs, installed=str)
    assert table.entries == ()
    assert "common word" in table.notices[0].text


def test_rare_words_and_other_scripts_are_names() -> None:
    for name in ("sks", "日本", "my char", "<s0>"):
        assert not why_unusable(name, _run(name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<s0><s1> dog", "<s0> <s1> dog"),
        ("a <s0>, b", "a <s0> , b"),
        ("(<s0>)", "( <s0> )"),
        ("<S0>.", "<S0> ."),
        ("<s0>@A, x", "<s0>@A, x"),
        ("my_char_'s", "my_char_ 's"),
        ("asuka  (eva), x", "asuka  (eva) , x"),
        ("a plain text, (with) <marks>", "a plain text, (with) <marks>"),
        ("hero, x", "hero, x"),
        ("<s0> dog", "<s0> dog"),
    ],
)
def test_names_are_set_apart_from_punctuation(text: str, expected: str) -> None:
    names = ["<s0>", "<s1>", "<s0>@A", "my_char_", "asuka (eva)", "hero"]
    assert PunctuationPadding(names)(text) == expected


def test_texts_stay_untouched_without_such_names() -> None:
    text = "a <s0>, (b)"
    assert PunctuationPadding(["hero", "x1"])(text) is text
    assert PunctuationPadding([])(text) is text


def test_equal_tables_have_equal_identity() -> None:
    first, second = _table(_bundle("A", s1=1), _bundle("B", s1=2)), _table(_bundle("A", s1=1), _bundle("B", s1=2))
    assert first.identity() == second.identity()
    assert first.identity() != _table(_bundle("B", s1=2), _bundle("A", s1=1)).identity()
    assert first.identity() != _table(_bundle("A", s1=3), _bundle("B", s1=2)).identity()


@pytest.mark.parametrize(
    ("widths", "family"),
    [((768,), "SD1"), ((1024,), "SD2"), ((1280, 768), "SDXL"), ([1280], "SDXL refiner"), ((4096,), ""), ((), "")],
)
def test_widths_tell_the_family(widths: Sequence[int], family: str) -> None:
    assert family_of_widths(widths) == family


def test_an_embedding_for_an_unknown_model_is_named_by_its_widths() -> None:
    table = _table(ActiveBundle("A", "A", {"s1": _embedding("s1", 1, clip_l=4096)}), clip_l=768)
    assert table.notices[0].text == (
        "LoRA A: s1 is not used: made for a model of width 4096, but the loaded model is SD1 (768)."
    )


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("MyChar", "mychar", True),
        ("ema  yasuhara", " Ema\nYasuhara ", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("\u0130zmir", "i\u0307zmir", True),
        ("stra\u00dfe", "strasse", False),
        ("\u017fun", "sun", False),
        ("mychar", "my char", False),
        ("\u00b2", "2", False),
    ],
)
def test_names_with_the_same_tokens_have_one_key(first: str, second: str, is_same: bool) -> None:
    assert (token_key(first) == token_key(second)) == is_same
    assert token_key(token_key(first)) == token_key(first)
    # Look-ups in prompts and in tags use the same key.
    assert (mentioned_names([f"a {first}, hat"], [second]) == [second]) == is_same
    assert parse_name_options([f"ti={first}/hero"]).renames(second) == is_same
