"""Placing embeddings in captions: as runs of token ids, longest first, chunked as a generation does it."""

from __future__ import annotations

import torch

from lib_pivotal.core.pivot.prompt import TextPlacer
from tests.unit.toy import COMMA, END, START, ToyEncoder

ENCODER = ToyEncoder()


def content(placed):
    """Ids between start and end of each row."""
    rows = []
    for row in placed.ids.tolist():
        assert row[0] == START
        rows.append(row[1 : row.index(END, 1)])
    return rows


def test_plain_text_is_taken_literally():
    placed = TextPlacer(ENCODER, {}).place("a (red:1.3) [hat] AND BREAK")
    pieces = ["a", "(", "red", ":", "1", ".", "3", ")", "[", "hat", "]", "and", "break"]
    assert content(placed) == [[ENCODER.tokenize(piece)[0] for piece in pieces]]
    assert placed.ids.shape == (1, 77) and not placed.vectors


def test_names_become_vectors_in_order_and_others_stay():
    placer = TextPlacer(ENCODER, {"zog": (0, 3), "mib": (3, 1)})
    placed = placer.place("a mib, zog")
    a, comma = ENCODER.tokenize("a ,")
    assert content(placed) == [[a, 0, comma, 0, 0, 0]]
    assert placed.columns == (2, 4, 5, 6) and placed.vectors == (3, 0, 1, 2) and placed.rows == (0, 0, 0, 0)


def test_longest_name_wins():
    placer = TextPlacer(ENCODER, {"zog": (0, 1), "zog x": (1, 2)})
    assert placer.place("zog x").vectors == (1, 2)
    assert placer.place("x zog").vectors == (0,)


def test_empty_text_has_one_row():
    assert content(TextPlacer(ENCODER, {}).place("")) == [[]]


def test_embedding_is_never_cut_in_two():
    words = "a " * 73
    placed = TextPlacer(ENCODER, {"zog": (0, 4)}).place(words + "zog b")
    assert [len(row) for row in content(placed)] == [73, 5]
    assert placed.rows == (1,) * 4 and placed.columns == (1, 2, 3, 4)


def test_full_row_is_cut_at_a_near_comma_and_takes_the_embedding_along():
    placed = TextPlacer(ENCODER, {"zog": (0, 4)}).place("a " * 65 + ", zog " + "b " * 10)
    first, second = content(placed)
    assert len(first) == 66 and first[-1] == COMMA
    assert placed.rows == (1,) * 4 and placed.columns == (1, 2, 3, 4) and len(second) == 14


def test_far_comma_does_not_cut():
    placed = TextPlacer(ENCODER, {}).place("a , " + "b " * 80)
    assert len(content(placed)[0]) == 75


def test_padding_follows_the_encoder():
    encoder = ToyEncoder()
    encoder.pad_id = 0
    row = TextPlacer(encoder, {}).place("a").ids[0]
    assert row[2] == END and torch.equal(row[3:], torch.zeros(74, dtype=torch.int64))
