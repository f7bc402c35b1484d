"""Embeddings in captions: as runs of token ids, longest first, chunked as a generation does it."""

from __future__ import annotations

import torch

from lib_pivotal.core.textual_inversion.prompt_chunks import PromptChunker
from tests.unit.toy import COMMA, END, START, ToyEncoder

ENCODER = ToyEncoder()


def content(chunked):
    """Ids between start and end of each row."""
    rows = []
    for row in chunked.ids.tolist():
        assert row[0] == START
        rows.append(row[1 : row.index(END, 1)])
    return rows


def test_plain_text_is_taken_literally():
    chunked = PromptChunker(ENCODER, {}).chunk("a (red:1.3) [hat] AND BREAK")
    pieces = ["a", "(", "red", ":", "1", ".", "3", ")", "[", "hat", "]", "and", "break"]
    assert content(chunked) == [[ENCODER.tokenize(piece)[0] for piece in pieces]]
    assert chunked.ids.shape == (1, 77) and not chunked.vectors


def test_names_become_vectors_in_order_and_others_stay():
    chunker = PromptChunker(ENCODER, {"zog": (0, 3), "mib": (3, 1)})
    chunked = chunker.chunk("a mib, zog")
    a, comma = ENCODER.tokenize("a ,")
    assert content(chunked) == [[a, 0, comma, 0, 0, 0]]
    assert chunked.columns == (2, 4, 5, 6) and chunked.vectors == (3, 0, 1, 2) and chunked.rows == (0, 0, 0, 0)


def test_longest_name_wins():
    chunker = PromptChunker(ENCODER, {"zog": (0, 1), "zog x": (1, 2)})
    assert chunker.chunk("zog x").vectors == (1, 2)
    assert chunker.chunk("x zog").vectors == (0,)


def test_empty_text_has_one_row():
    assert content(PromptChunker(ENCODER, {}).chunk("")) == [[]]


def test_embedding_is_never_cut_in_two():
    words = "a " * 73
    chunked = PromptChunker(ENCODER, {"zog": (0, 4)}).chunk(words + "zog b")
    assert [len(row) for row in content(chunked)] == [73, 5]
    assert chunked.rows == (1,) * 4 and chunked.columns == (1, 2, 3, 4)


def test_full_row_is_cut_at_a_near_comma_and_takes_the_embedding_along():
    chunked = PromptChunker(ENCODER, {"zog": (0, 4)}).chunk("a " * 65 + ", zog " + "b " * 10)
    first, second = content(chunked)
    assert len(first) == 66 and first[-1] == COMMA
    assert chunked.rows == (1,) * 4 and chunked.columns == (1, 2, 3, 4) and len(second) == 14


def test_far_comma_does_not_cut():
    chunked = PromptChunker(ENCODER, {}).chunk("a , " + "b " * 80)
    assert len(content(chunked)[0]) == 75


def test_padding_follows_the_encoder():
    encoder = ToyEncoder()
    encoder.pad_id = 0
    row = PromptChunker(encoder, {}).chunk("a").ids[0]
    assert row[2] == END and torch.equal(row[3:], torch.zeros(74, dtype=torch.int64))
