"""Our reader of TOML reads what Python's own one reads, and names the line of a mistake."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib_pivotal.core.importers.toml import TomlError, parse_toml

WHOLE = r'''
# A comment.
title = "zog" # after a value
'quoted key' = 1
"escaped \u0041" = 2
path = 'D:\zog\new'
escapes = "a\tb\\c\"d\u00e9\U0001F600"
long = """
first
second \
    joined "quoted" ""x"""""
raw = \'\'\'
C:\raw 'quoted'\'\'\'
whole = [1, -2, +3, 1_000, 0xff, 0o17, 0b101]
parts = [1.5, -2e3, 5e-05, 6.02E+23, 1_0.2_5]
yes = true
no = false
many = [
    "one", # the first
    "two",
]
mixed = [[1, 2], ["a"], {x = 1, y.z = "b"}]
empty = {}
a.b.c = 1
a.b.d = 2

[general]
flip = false
[general.more]
x = 1
[[datasets]]
resolution = 768
  [[datasets.subsets]]
  image_dir = 'D:\zog'
  [[datasets.subsets]]
  image_dir = "E:/mib"
  [datasets.extra]
  y = 2
[[datasets]]
resolution = [512, 768]
'''.replace("\\'", "'")


def test_every_kind_of_value_is_read():
    found = parse_toml(WHOLE)
    assert found["path"] == r"D:\zog\new"
    assert found["long"] == 'first\nsecond joined "quoted" ""x""'
    assert found["raw"] == "C:\\raw 'quoted'"
    assert found["whole"] == [1, -2, 3, 1000, 255, 15, 5]
    assert found["parts"] == [1.5, -2000.0, 5e-05, 6.02e23, 10.25]
    assert found["mixed"][2] == {"x": 1, "y": {"z": "b"}}
    assert found["datasets"][0]["subsets"][1] == {"image_dir": "E:/mib"}
    assert [item["resolution"] for item in found["datasets"]] == [768, [512, 768]]


MISTAKES = [
    ("a = 1\nb = \n", 2),
    ("a = 1\n\nb == 2", 3),
    ("a = 1\na = 2", 2),
    ("[a]\nb = 1\n[a]\n", 3),
    ("x = [1,\n2\n3]", 3),
    ('x = "open\n', 1),
    ('# path\nx = "D:\\zog"', 2),
    ("day = 2024-05-01", 1),
    ("x = 012", 1),
    ("x = {a = 1,}", 1),
    ("a.b = 1\na.b.c = 2", 2),
    ("[[a]]\n[a]", 2),
    ("a = []\n[[a]]", 2),
    ("a = {b = 1}\n[a.c]", 2),
    ("\n" * 9 + "x = " + "[" * 100, 10),
    ("x = " + "9" * 5000, 1),
]


@pytest.mark.parametrize(("text", "line"), MISTAKES)
def test_a_mistake_names_its_line(text, line):
    with pytest.raises(TomlError) as caught:
        parse_toml(text)
    assert caught.value.line == line
    assert f"Line {line}" in str(caught.value)


def test_a_windows_path_in_double_quotes_is_explained():
    with pytest.raises(TomlError, match="single quotes"):
        parse_toml('image_dir = "D:\\zog"')


needs_tomllib = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")

WORDS = r"""
    a b . = 1 -0 1_0 0x1f 1.5 2e-3 inf true [ ] [[ ]] [a] [[a]] [a.b] [a.b.c] [b] { } , # " ' ''' \ \n é _ + 0
"""
PIECES = st.sampled_from(
    [
        *WORDS.split(),
        '"""',
        " ",
        "\t",
        "\n",
        "\n",
        "\r\n",
        "\\\n",
        "\\u0041",
        "\x00",
        "\x7f",
        "\na = 1\n",
        "\nb = {a = 1}\n",
        "\nb = [1, 2]\n",
    ]
)


@needs_tomllib
@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=14).map("".join))
@example(WHOLE)
@example("[a.b]\nx = 1\n[a]\nb.y = 2")
@example("[a]\nb.c = 1\n[a.b]")
@example("[a]\nb.c = 1\n[a.b.d]")
@example("[[a.b]]\n[a]\nb.y = 2")
@example('x = """"a""""')
@example('x = """a\\  \n\n  b"""')
@example("x = '''a''''")
@example("[a]]")
@example("a = 1 b = 2")
def test_the_same_texts_are_toml_for_python(text):
    import tomllib

    try:
        expected = tomllib.loads(text)
    except (ValueError, RecursionError):
        with pytest.raises(TomlError):
            parse_toml(text)
    else:
        assert json.dumps(parse_toml(text)) == json.dumps(expected)


VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def written(value) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)} = {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + "".join(f"  {written(item)},\n" for item in value) + "]"
    return (
        json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        if isinstance(value, str)
        else json.dumps(value)
    )


@pytest.mark.timeout(20)
def test_a_text_without_end_takes_no_time():
    with pytest.raises(TomlError):
        parse_toml('x = """' + "\\\n" * 50_000)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(VALUES)
def test_written_values_are_read_again(value):
    assert parse_toml(f"x = {written(value)}") == {"x": value}
