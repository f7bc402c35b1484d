"""Concepts as text: what a person types or pastes, and the way there and back."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_pivotal.core.config.concept_lines import read_concept_lines, show_concept_lines
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.schema import Concept

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.text('"; ,=\t\n|a', max_size=8)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
CONCEPTS = st.lists(
    st.builds(
        Concept,
        name=TEXT,
        init_text=TEXT,
        vectors=st.integers(),
        aliases=st.lists(TEXT, max_size=3).map(tuple),
        lr_multiplier=NUMBER,
        stop_at=NUMBER,
        core_tags=st.lists(TEXT, max_size=3).map(tuple),
        class_noun=TEXT,
        weight=NUMBER,
    ),
    max_size=4,
)


@settings(derandomize=True, deadline=None)
@given(CONCEPTS, st.sampled_from(["; ", "\t", ","]))
def test_every_concept_reads_back_as_it_was(concepts, separator):
    text = show_concept_lines([asdict(concept) for concept in concepts], separator)
    read = read_concept_lines(text)
    config, problems = read_dict({"concepts": [{"name": "", **row} for row in read.rows]})
    assert not problems
    assert config.concepts == tuple(concepts)
    assert show_concept_lines(read.rows, separator) == text


@settings(derandomize=True, deadline=None)
@given(st.text('"; ,=\t\nazog1.', max_size=60), st.sampled_from(["name", "init_text", "vectors", "aliases"]))
def test_no_text_is_an_exception(text, first):
    read = read_concept_lines(text, first)
    assert len(read.rows) == len(read.lines)


ZOG = {"name": "zog", "init_text": "small teal robot"}


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        ("\n \n", []),
        ("zog\n\nmib\n", [{"name": "zog"}, {"name": "mib"}]),
        ("zog = small teal robot\nmib=ring, gold; thin = round\nnim", [
            ZOG, {"name": "mib", "init_text": "ring, gold; thin = round"}, {"name": "nim"}]),
        ("zog\tsmall teal robot\t8\tzog, robot", [{**ZOG, "vectors": 8, "aliases": ["zog", "robot"]}]),
        ("zog;small teal robot;;;0,5;0.9", [{**ZOG, "lr_multiplier": 0.5, "stop_at": 0.9}]),
        ("name,start words,vectors,stands for,rate,freeze,core tags,class\nzog,small teal robot,4,\"a, b\",2,1,red hair,robot", [
            {**ZOG, "vectors": 4, "aliases": ["a", "b"], "lr_multiplier": 2.0, "stop_at": 1.0,
             "core_tags": ["red hair"], "class_noun": "robot"}]),
        ("Initialization Text\tNAME\r\nsmall teal robot\tzog\r\n", [ZOG]),
        ('zog;"small; ""teal""\nrobot"', [{"name": "zog", "init_text": 'small; "teal"\nrobot'}]),
        ("zog,small teal robot", [ZOG]),
    ],
)  # fmt: skip
def test_as_a_person_types_it(text, rows):
    read = read_concept_lines(text)
    assert (read.rows, read.problems) == (rows, [])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name\tshade\tvectors\nzog", 1, ["shade", "left out"]),
        ("name\tvectrs\nzog\t3", 1, ["vectrs", "vectors"]),
        ("name\tvectors\tvectors\nzog\t3\t4", 1, ["second column"]),
        ("zog\nmib\n\nZOG", 4, ["ZOG", "line 1"]),
        ("zog;robot;four", 1, ["four", "whole number"]),
        ("zog;robot;4;;fast", 1, ["fast", "a number"]),
        ("zog;robot;4;;inf", 1, ["inf", "a number"]),
        ("mib;ring\n\"zog;robot", 2, ["quote"]),
        ("name;vectors\nzog;1;2;3", 2, ["4 cells", "2 columns"]),
        ('name;start words\nmib;"two\nlines"\nmib', 4, ["line 2"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(text, line, words):
    problems = read_concept_lines(text).problems
    assert problems
    found = next(str(problem) for problem in problems if f"Line {line}:" in problem.message)
    assert all(word in found for word in words), found


def test_a_number_that_cannot_be_read_stays_as_it_is_written():
    read = read_concept_lines("zog;robot;four")
    assert read.rows == [{"name": "zog", "init_text": "robot", "vectors": "four"}]
    assert read_concept_lines(show_concept_lines(read.rows)).rows == read.rows


def test_a_column_that_is_pasted_by_itself():
    """Commas, semicolons and equals signs are part of a text or of a list of tags."""
    read = read_concept_lines("red, small\nblue; x = y", "init_text")
    assert read.rows == [{"init_text": "red, small"}, {"init_text": "blue; x = y"}]
    read = read_concept_lines("4\ta, b\n8\tc", "vectors")
    assert read.rows == [{"vectors": 4, "aliases": ["a", "b"]}, {"vectors": 8, "aliases": ["c"]}]


def test_only_columns_that_say_something_are_shown():
    assert show_concept_lines([]) == "name; initialization text; vectors; caption tags"
    rows = [{**ZOG, "vectors": 4, "aliases": ["zog", "a, b"]}, {"name": "mib", "stop_at": 0.5}]
    assert show_concept_lines(rows).split("\n") == [
        "name; initialization text; vectors; caption tags; stop training at",
        'zog; small teal robot; 4; "zog, ""a, b"""; 0.7',
        "mib; ; 4; ; 0.5",
    ]


def test_a_text_of_megabytes_is_refused():
    assert "too long" in read_concept_lines("x\n" * 2**20).problems[0].message
