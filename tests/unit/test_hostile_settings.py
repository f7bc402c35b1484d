"""Settings of any shape give readable problems, never a traceback."""

from __future__ import annotations

import json
import os
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lib_pivotal.app.runs import load_last
from lib_pivotal.cli.train import read_settings
from lib_pivotal.core.config.io import read_json, to_json
from lib_pivotal.core.config.schema import Concept, TrainConfig, field_info
from lib_pivotal.core.config.settings_file import MAX_SETTINGS_BYTES, read_settings_file
from lib_pivotal.core.config.user_path import check_path
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.setting_checks import with_parse_problems

SETTINGS = list(field_info())
CONCEPT = [item.name for item in fields(Concept)]


def tokenize(text: str) -> list[int]:
    """One token per letter, in lower case like CLIP's."""
    return [ord(letter) for letter in text.lower()]


def problems_of(raw, folder):
    """All problems that Check reports, by field; asserts that they can be encoded and shown."""
    try:
        config, parse_problems = read_json(raw)
    except ConfigError as error:
        found = error.problems
    else:
        to_json(config).encode("utf-8")
        found = with_parse_problems(
            parse_problems, check(config, bundles=folder, taken_names={}, tokenizer=tokenize).problems
        )
    assert json.loads(json.dumps([str(problem) for problem in found], ensure_ascii=False).encode("utf-8"))
    assert all(len(str(problem)) < 1000 and problem.hint for problem in found)
    return {problem.field: problem for problem in found}


DIGITS = "9" * 5000
LONG = "n" * 300


@pytest.mark.parametrize("digits", [DIGITS, "9" * 401, "1e999", "-" + DIGITS, "NaN", "-Infinity"], ids=lambda d: d[:9])
def test_a_number_that_is_too_large_is_a_problem_of_its_field(tmp_path, digits):
    found = problems_of("{" + ", ".join(f'"{name}": {digits}' for name in SETTINGS) + "}", tmp_path)
    assert all(found[name].is_error for name in SETTINGS)
    concept = "{" + ", ".join(f'"{name}": {digits}' for name in CONCEPT) + "}"
    found = problems_of(f'{{"concepts": [{concept}]}}', tmp_path)
    assert all(found[f"concepts[0].{name}"].is_error for name in CONCEPT)


@pytest.mark.parametrize(
    "raw",
    [
        "[" * 100_000,
        '{"concepts": ' + "[" * 100_000,
        '{"steps": ' * 100_000,
        '{"config_version": ' + DIGITS + "}",
        '{"config_version": ' + "[" * 900 + "]" * 900 + "}",
        "{" + '"a": 1, ' * 9 + "}",
        b"\xff\xfe{\0}\0",
        b"{\0}\0",
        b'{"output_name": "caf\xe9"}',
        b"",
    ],
    ids=lambda raw: repr(raw)[:16],
)
def test_text_of_any_shape_is_a_problem(tmp_path, raw):
    assert problems_of(raw, tmp_path)


@pytest.mark.parametrize("name", ["output_name", "data_folder", "checkpoint", "if_exists", "sample_prompts"])
@pytest.mark.parametrize("text", [LONG, "x" * 100_000, "\ud800", "a\udce9b", "a\0b", "a\nb", "~nosuchuser/x", '"a"'])
def test_texts_that_are_not_valid_names(tmp_path, name, text):
    found = problems_of(json.dumps({name: text}), tmp_path)
    if name in ("output_name", "data_folder", "if_exists"):
        assert found[name].is_error


def test_a_problem_with_a_path_is_explained(tmp_path):
    def said(text):
        return str(problems_of(json.dumps({"data_folder": text}), tmp_path)["data_folder"])

    assert "too long" in said(LONG)
    assert "refers to a user" in said("~nosuchuser/x")
    # Quotes and spaces around the image folder are simply removed.
    assert "C:/images does not exist" in said(' "C:/images" ')
    assert "quotes" in str(check_path("checkpoint", '"C:/model.safetensors"'))
    assert "space" in str(check_path("checkpoint", f"{tmp_path} "))
    assert "twice" in said("C:\new\table")
    assert "twice" in said("C:/a\0b")


@pytest.mark.skipif(os.name == "nt", reason="Windows drops such a space")
def test_a_folder_that_ends_with_a_space_can_be_used(tmp_path):
    (tmp_path / "images ").mkdir()
    found = problems_of(json.dumps({"data_folder": f"{tmp_path}/images "}), tmp_path)
    assert "space" not in str(found["data_folder"])


@pytest.mark.parametrize("text", ["\ud800", "\udc00x", LONG, "x" * 100_000])
def test_keys_with_any_characters_are_named_readably(tmp_path, text):
    (field,) = set(problems_of(json.dumps({text: 1}), tmp_path)) - {"output_name", "data_folder"}
    assert field.startswith(("\\ud", "nnn", "xxx"))
    assert len(field) < 120
    assert problems_of(
        json.dumps({"concepts": [{"name": text, text: text, "aliases": [text], "init_text": text}]}), tmp_path
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body",
    [
        {f"key_{number:05}": 1 for number in range(3_000)},
        {"concepts": [{f"k{number}": 1} for number in range(3_000)]},
        {"concepts": [{"name": f"zog x{number}", "aliases": [f"tag {number}"]} for number in range(3_000)]},
        {"concepts": [{"name": name} for name in ["a x"] * 1500 + ["a x x"] * 1500]},
        {"concepts": [{}] * 12_000},
        {"aliases" * 20_000: 1},
    ],
    ids=["unknown keys", "unknown keys of concepts", "concepts", "names in names", "empty concepts", "a long key"],
)
def test_very_many_items_are_checked_in_linear_time(tmp_path, body):
    assert problems_of(json.dumps(body), tmp_path)


def test_unknown_settings_are_counted_when_there_are_many():
    _, parse_problems = read_json(json.dumps({f"key_{number}": 1 for number in range(100)}))
    assert len(parse_problems) == 21
    assert "80 more" in parse_problems[-1].message


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{\r\n  "data_folder": "C:\\Users\\me"\r\n}', ["Line 2", "written twice", "slash"]),
        (b'{"data_folder": "C:\\data\\"}', ["Line 1", "written twice"]),
        (b'{\n\n"data_folder": "\\\\host\\share"}', ["Line 3", "written twice"]),
        (b'{"data_folder": "C:\\new\\",\n "steps": 3}', ["Line 1", "written twice"]),
        (b'{"steps": 3,,}', ["line 1, column 13"]),
        (b'\xff\xfe{\0"\0', ["UTF-16", "UTF-8"]),
        (b'\xfe\xff\0{\0"', ["UTF-16", "UTF-8"]),
        (b'{\0"\0a\0"\0', ["UTF-16", "UTF-8"]),
        (b'{\r\n"output_name": "caf\xe9"}', ["Line 2", "UTF-8"]),
    ],
)
def test_typical_damage_by_editors_and_windows_is_recognized(tmp_path, raw, words):
    (tmp_path / "config.json").write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        read_settings(tmp_path / "config.json", None)
    (problem,) = caught.value.problems
    assert all(word in str(problem) for word in words), str(problem)


def test_windows_line_ends_and_a_byte_order_mark_are_accepted(tmp_path):
    (tmp_path / "config.json").write_bytes(b'\xef\xbb\xbf{\r\n"steps": 3,\r\n"data_folder": "C:\\\\images"\r\n}\r\n')
    config, parse_problems = read_settings(tmp_path / "config.json", None)
    assert (config.steps, config.data_folder, parse_problems) == (3, "C:\\images", [])
    assert read_json('\ufeff{"steps": 3}')[0].steps == 3


def test_files_that_are_not_settings_are_not_read_completely(tmp_path):
    (tmp_path / "large.json").write_bytes(b" " * (MAX_SETTINGS_BYTES + 1))
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "last.json").write_bytes(b"\xff")
    paths = [tmp_path / "large.json", tmp_path / "folder.json", tmp_path / "missing.json", tmp_path / LONG]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.json")
        paths.append(tmp_path / "pipe.json")
    for path in paths:
        with pytest.raises(ConfigError):
            read_settings_file(path)
    with pytest.raises(ConfigError):
        load_last(tmp_path)


NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(10**309), 10**308, 2**63, 0, 1e300]))
TEXTS = st.one_of(
    st.text(st.characters(codec=None, exclude_categories=()), max_size=20),
    st.sampled_from(["\ud800", LONG, "~nobody_here/x", "a\0b", "con", "AND", "zog_x"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
CONCEPTS = st.dictionaries(st.one_of(st.sampled_from(CONCEPT), TEXTS), st.one_of(VALUES, st.lists(TEXTS, max_size=3)))
BODIES = st.dictionaries(st.one_of(st.sampled_from([*SETTINGS, "config_version"]), TEXTS), VALUES, max_size=8)


# "no-such-folder/": a folder that exists on this machine would be searched for images.
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(BODIES, st.one_of(VALUES, st.lists(st.one_of(CONCEPTS, VALUES), max_size=4)), TEXTS)
@example({"config_version": 10**400}, [{"name": "\ud800"}], "")
def test_any_json_gives_problems_and_no_traceback(tmp_path, body, concepts, folder):
    body = {**body, "concepts": concepts, "data_folder": f"no-such-folder/{folder}"}
    # Numbers that are too long for Python to print are in the cases above.
    problems_of(json.dumps(body), tmp_path)


def test_a_valid_example_has_no_parse_problems(tmp_path):
    config = TrainConfig(concepts=(Concept("zog_x", "red hat, größe, 日本", aliases=("a", "b")),), output_name="zog")
    assert read_json(to_json(config)) == (config, [])
    assert set(problems_of(to_json(config), tmp_path)) == {"data_folder"}
