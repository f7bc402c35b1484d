"""Names of embeddings, bundles and files: what is refused, and remedies that the same check accepts."""

from __future__ import annotations

import unicodedata

import pytest

from lib_pivotal.core.bundle.names import check_file_name, check_names, file_stem_for, suggest_name, token_key
from lib_pivotal.core.config.schema import Concept
from tests.unit.toy import ToyEncoder

TOKENIZE = ToyEncoder().tokenize


def names(*given, taken=None, tokenizer=TOKENIZE):
    concepts = [Concept(name) for name in given]
    return check_names(concepts, taken=taken or {}, tokenizer=tokenizer)


def errors(*given, **options):
    return [problem for problem in names(*given, **options) if problem.is_error]


def remedy(problem) -> str:
    return problem.hint.removeprefix("Use ").removesuffix(".")


BAD = {
    "syntax": ["a.b", "<zog>", "(zog)", "[zog]", "a:b", "a|b", "a\\b", "a,b", "zog,", "zog/x", 'zog"', "{zog}", "zog@x", "a=b"],
    "edges": ["zog_", "-zog", " zog", "zog ", "हिन्दी", "\u0301zog", "ไทยี"],
    "grammar": ["AND", "BREAK", "cat AND dog", "x-BREAK", "x AND"],
    "control": ["a\nb", "a\x1bb", "a\u202eb", "a\u200bb", "a\ud800b", "\ue000x", "a\u3000b", "a\u00a0b"],
    "variants": ["Ｚｏｇ", "zog１", "ﾐｸ", "ﬁx"],
    "accents apart": ["e\u0301lodie", "カ\u3099ム"],
    "symbols": ["zog♥", "😀x", "c++", "x’s", "!!!", "..."],
}  # fmt: skip


@pytest.mark.parametrize("tokenizer", [None, TOKENIZE], ids=["no model", "model"])
@pytest.mark.parametrize("name", [name for group in BAD.values() for name in group], ids=ascii)
def test_bad_names_are_refused_with_one_suggestion(name, tokenizer):
    (problem,) = errors(name, tokenizer=tokenizer)
    assert not errors(remedy(problem), tokenizer=tokenizer)
    assert not [item for item in names(remedy(problem), tokenizer=tokenizer) if "vocabulary" in item.message]
    assert str(problem).replace("\u3000", " ").isprintable()


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "ミ" * 61])
def test_names_without_letters_or_with_too_many(name):
    (problem,) = errors(name)
    assert problem.hint


@pytest.mark.parametrize(
    "name", ["zog_x", "zog x", "zog-2", "ZOG x", "cat and dog", "zog_AND", "handBREAK x", "a  b", "7of9_x"]
)
def test_names_that_earlier_releases_allowed_pass(name):
    assert not errors(name)


@pytest.mark.parametrize(
    "name",
    ["初音ミク v1", "мия_v1", "Élodie x", "zög_2", "हिन्दी_1", "ไทย_1", "한국어 x", "עברית_1", "عربي_1", "ΖΟΓΣ_2", "ზოგი_1", "x²"],
)  # fmt: skip
def test_every_alphabet_is_allowed(name):
    assert not errors(name, tokenizer=None)


@pytest.mark.parametrize("name", ["((cat))", "cat", "AND", "dog!", "cat_v1.", "cats|dogs"])
def test_a_suggestion_is_not_a_word_of_the_vocabulary(name):
    suggested = suggest_name(name, TOKENIZE)
    assert not errors(suggested)
    assert len(TOKENIZE(suggested)) > 1


def test_suggestions_stay_close():
    assert suggest_name("((zog cat))", TOKENIZE) == "zog_cat"
    assert suggest_name("Ｚｏｇ２") == "Zog2"
    assert suggest_name("zog_v1", avoid={"zog_v1", "zog_v2"}) == "zog_v3"
    assert suggest_name("हिन्दी") == "हिन्दी_v1"
    assert suggest_name("…") == "my_concept"
    assert suggest_name("初音.ミク") == "初音_ミク"


@pytest.mark.parametrize("letters", ["あ", "<", "ि", "AND ", "_", "😀", "ﬁ"])
def test_suggestions_for_long_names_fit(letters):
    assert not errors(suggest_name(letters * 500), tokenizer=None)


def test_a_name_gets_one_suggestion_that_is_free():
    found = names("AND", taken={"and_v1": "and_v1.pt"})
    assert len(found) == 1
    assert remedy(found[0]) == "and_v2"
    assert "and_v3" in names("AND", "and_v2", taken={"and_v1": "and_v1.pt"})[0].hint


@pytest.mark.parametrize(("first", "second"), [("zog x", "ZOG x"), ("zog x", "zog  x"), ("éa x", "ÉA x")])
def test_two_names_with_the_same_tokens_are_refused(first, second):
    assert token_key(first) == token_key(second)
    (problem,) = errors(first, second)
    assert problem.field == "concepts[1].name"
    assert "same name" in problem.message
    (problem,) = names(first, taken={second.lower(): "far.pt"})
    assert "installed" in problem.message
    assert "far.pt" in problem.message


def test_name_clashes():
    assert [p.severity for p in names("surtr arknights", "surtr")] == ["error", "warning"]
    assert "vocabulary" in str(names("art")[0])
    nested = [p.message for p in names("zog cat hat", "zog cat") if "part of" in p.message]
    assert len(nested) == 1 and "part of zog cat hat" in nested[0]


def test_a_name_inside_an_installed_embeddings_name_gives_a_warning():
    found = names("zog cat", taken={"zog cat hat": "far.pt", "zog": "short.pt", "zog category": "other.pt"})
    (problem,) = (item for item in found if "part of" in item.message)
    assert problem.severity == "warning" and problem.field == "concepts[0].name"
    assert "installed embedding zog cat hat as" in problem.message


def test_costly_names_and_scripts_without_spaces_give_a_warning():
    found = names("初音ミク", tokenizer=lambda text: [7] * (9 if text == "初音ミク" else 3))
    assert not any(problem.is_error for problem in found)
    assert [word in str(found) for word in ("9 of a prompt's 75 tokens", "within a run of letters")] == [True, True]
    assert not names("мия_v1", tokenizer=lambda _text: [7] * 7)


@pytest.mark.timeout(20)
def test_thousands_of_names_are_checked_in_linear_time():
    names(*(f"zog {number}" for number in range(3000)), *(f"a.b{number}" for number in range(500)))
    names(*(f"zog {number}" for number in range(100)), taken={f"zog {number} x": "x.pt" for number in range(10_000)})


# -- files


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "a/b", "a\\b", "..", ".", "a:b", "<x>", " a", "a.", "a ", "_a", "x" * 101, "初" * 61, "a\x00b", "a\u202eb", "zog♥",
        "nul", "con", "CON", "Con.v1", "com1", "lpt9.x", "aux .txt", "COM¹", "e\u0301lo", "a|b", "a\ud800",
    ],
    ids=ascii,
)  # fmt: skip
def test_bad_file_names_get_a_remedy_that_passes(name):
    (problem,) = check_file_name(name)
    assert str(problem).isprintable()
    if problem.hint.startswith("Use "):
        assert not check_file_name(remedy(problem))


def test_the_remedies_of_reserved_names():
    assert [remedy(check_file_name(name)[0]) for name in ("con", "CON.v1")] == ["con_1", "CON_1.v1"]


@pytest.mark.parametrize(
    "name", ["zog", "zog v1.2", "zog_2-b", "初音ミク", "мия", "हिन्दी", "ÉLODIE", "console", "conny.v1"]
)
def test_good_file_names(name):
    assert not check_file_name(name)


@pytest.mark.parametrize(
    "name",
    ["../../up", "/etc/x", "C:\\x", "..", "con", "a:b", "x" * 100, "初" * 100, "<s0>", ",", " . ", "a\x00b", "a\ud800", "e\u0301", "_x"],
    ids=ascii,
)  # fmt: skip
def test_file_stems_are_files_everywhere(name):
    stem = file_stem_for(name)
    assert stem
    assert not set(stem) & set('<>:"/\\|?*\0')
    assert stem == stem.strip(". ")
    assert stem.partition(".")[0].lower() != "con"
    assert len(f".{stem}-1000.safetensors.0123abcd-123456-01234567.tmp".encode()) < 255
    assert unicodedata.normalize("NFC", stem) == stem


@pytest.mark.parametrize("name", ["初音ミク", "мия", "v1.0", "_x", "zog x", "हिन्दी"])
def test_names_that_can_be_file_names_stay(name):
    assert file_stem_for(name) == name
