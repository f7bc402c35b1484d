"""Text of other people's files on its way to a terminal, a log or JSON."""

from __future__ import annotations

import json

import pytest

from lib_pivotal.core.errors import BundleError, ConfigError, Problem
from lib_pivotal.core.printable import printable, printable_json, printable_lines

HOSTILE = [
    "\x1b[31m", "\x00", "\x07", "\r", "\n", "\t", "\x7f", "\x9b", "\x85", "\u202e", "\u2066", "\u200b", "\u2028", "\u2029",
    "\ufeff", "\xa0", "\u2009", "\ud800", "\udce9", "\ue000", "\U000e0041",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hidden_is_printed(text):
    shown = printable(f"a{text}b")
    assert shown.isprintable()
    assert shown.startswith("a")
    assert shown.endswith("b")
    assert "\\" in shown
    shown.encode("utf-8")


@pytest.mark.parametrize("text", ["初音ミク", "мия", "हिन्दी", "עברית", "é", "x\u3000y", "a b", "😀", "C:\\x", '"'])
def test_every_alphabet_stays(text):
    assert printable(text) == text
    assert json.loads(printable_json([text])) == [text]


def test_the_byte_of_a_file_name_is_shown_as_such():
    assert printable("caf\udce9.png") == "caf\\xe9.png"


def test_long_texts_are_cut():
    assert printable("x" * 100) == "x" * 60 + "…"
    assert printable("x" * 100, None) == "x" * 100
    assert printable("x" * 60) == "x" * 60


def test_lines_stay_lines():
    assert printable_lines("a\x1b\nb\r") == "a\\x1b\nb\\r"


@pytest.mark.parametrize("text", HOSTILE)
def test_json_is_valid_and_printable(text):
    raw = printable_json({f"k{text}": [text, {"v": text}]})
    assert all(line.isprintable() for line in raw.split("\n"))
    raw.encode("utf-8")
    assert json.loads(raw) == {f"k{text}": [text, {"v": text}]}


def test_numbers_that_json_does_not_know_become_null():
    raw = printable_json({"a": float("nan"), "b": [float("inf"), (1.5, -float("inf"))]})
    assert json.loads(raw, parse_constant=pytest.fail) == {"a": None, "b": [None, [1.5, None]]}


@pytest.mark.parametrize("text", HOSTILE)
def test_no_error_carries_it_further(text):
    problem = Problem(f"x{text}", "error", f"m{text}", f"h{text}")
    for shown in (str(problem), str(BundleError(f"a{text}", hint=f"b{text}")), ConfigError([problem]).message):
        assert all(line.isprintable() for line in shown.split("\n"))
        shown.encode("utf-8")
