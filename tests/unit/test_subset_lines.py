"""The folders of a data set as text, one per line."""

from __future__ import annotations

import pytest

from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.config.subset_lines import read_subset_lines, show_subset_lines

CASES = [
    Subset("/data/reg", kind="regularization"),
    Subset("D:\\zog pics\\", repeats=2.5, always=("zog_v1", "mib"), captions="caption", masks="alpha"),
    Subset("/a|b", caption_prefix="zog_v1 ||| ", caption_suffix='said "no"', keep_first=3),
    Subset('"quoted"', mask_folder="/m", subfolders=False, loss_weight=0.1),
    Subset(" spaces ", caption_prefix="two\nlines", kind="validation", repeats=1e-3),
    Subset("/x=y"),
]


@pytest.mark.parametrize("subset", CASES, ids=lambda subset: subset.folder)
def test_what_is_shown_reads_back(subset):
    read = read_subset_lines(show_subset_lines((subset,)))
    assert (read.subsets, read.problems) == ((subset,), [])


def test_all_at_once():
    text = show_subset_lines(tuple(CASES))
    assert read_subset_lines(text).subsets == tuple(CASES)
    assert text.startswith("/data/reg | kind=regularization\n")


def test_as_a_person_types_it():
    read = read_subset_lines(
        '\n  "D:\\my zog"|kind = validation  \r\n\n/b | always= a , b,| repeats=3 | subfolders=no\n'
    )
    assert read.subsets == (
        Subset("D:\\my zog", kind="validation"),
        Subset("/b", always=("a", "b"), repeats=3.0, subfolders=False),
    )
    assert read.lines == (2, 4)
    assert not read.problems
    assert read_subset_lines("").subsets == ()
    assert show_subset_lines(()) == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/a | repeat=3", "repeats"),
        ("/a | repeats=many", "number"),
        ("/a | repeats=", "number"),
        ("/a | keep_first=1.5", "whole number"),
        ("/a | subfolders=perhaps", "yes or no"),
        ("/a | kind=reg", "regularization"),
        ("/a | 3", "name=value"),
        ("/a | kind=train | kind=validation", "twice"),
        (" | kind=train", "folder"),
        ('/a | caption_prefix="zog', "quote"),
        ('/a | caption_prefix="zog" x', "quote"),
    ],
)
def test_a_problem_names_the_line(line, words):
    read = read_subset_lines(f"/fine\n\n{line}\n/also fine")
    (problem,) = read.problems
    assert problem.is_error and problem.field == "subsets"
    assert "Line 3" in problem.message and words in problem.message + problem.hint
    assert Subset("/fine") in read.subsets
