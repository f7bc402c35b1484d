"""From a caption to rows of 77 token ids with places for embedding vectors, as a generation does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

__all__ = ["CHUNK", "EncoderTokens", "PlacedText", "TextPlacer"]

CHUNK = 75
"""Content tokens of a row; 77 with start and end."""

_BACKTRACK = 20
"""How far a full row is cut back to its last comma.

Host: modules/sd_hijack_clip.py, tokenize_line with opts.comma_padding_backtrack = 20 (the default),
A1111 1.6.1-1.10.1.
"""


class EncoderTokens(Protocol):
    """The part of a text encoder that placing needs."""

    start_id: int
    end_id: int
    pad_id: int

    def tokenize(self, text: str) -> list[int]:
        """Ids of ``text`` without start and end."""
        ...


@dataclass(frozen=True)
class PlacedText:
    """One caption as rows.

    Attributes:
        ids: int64 on the CPU, shape ``(chunks, 77)``; 0 where a vector goes.
        rows: row of each vector.
        columns: column of each vector, 1 … 75.
        vectors: index of each vector in the table of all embeddings.
    """

    ids: torch.Tensor
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    vectors: tuple[int, ...]


class TextPlacer:
    """Tokenises captions literally and puts embeddings where their names stand.

    Names are found as runs of token ids, the longest first, because that is how webuis find them.

    Args:
        encoder: tokeniser and special ids.
        embeddings: name → (first vector, number of vectors) in the table of all embeddings.
    """

    def __init__(self, encoder: EncoderTokens, embeddings: Mapping[str, tuple[int, int]]) -> None:
        self._encoder = encoder
        self._comma = encoder.tokenize(",")[-1]
        self._names: dict[int, list[tuple[tuple[int, ...], tuple[int, int]]]] = {}
        for name, span in embeddings.items():
            ids = tuple(encoder.tokenize(name))
            self._names.setdefault(ids[0], []).append((ids, span))
        for entries in self._names.values():
            entries.sort(key=lambda entry: len(entry[0]), reverse=True)

    def place(self, text: str) -> PlacedText:
        """Rows for one caption; at least one row, also for an empty text."""
        return self._rows(self._split(self._encoder.tokenize(text)))

    def lengthened(self, text: PlacedText, rows: int) -> PlacedText:
        """The same text with empty rows behind it, up to ``rows`` of them."""
        missing = rows - len(text.ids)
        if missing <= 0:
            return text
        empty = self._rows([[]] * missing)
        return PlacedText(torch.cat([text.ids, empty.ids]), text.rows, text.columns, text.vectors)

    def _units(self, ids: Sequence[int]) -> list[tuple[int, tuple[int, int] | None]]:
        """Tokens and embeddings in order: ``(id, None)`` or ``(0, span)``."""
        units: list[tuple[int, tuple[int, int] | None]] = []
        at = 0
        while at < len(ids):
            for name, span in self._names.get(ids[at], ()):
                if tuple(ids[at : at + len(name)]) == name:
                    units.append((0, span))
                    at += len(name)
                    break
            else:
                units.append((ids[at], None))
                at += 1
        return units

    def _split(self, ids: Sequence[int]) -> list[list[tuple[int, int | None]]]:
        """Rows of ``(id, vector)``, an embedding never cut in two, cut at a comma where one is near."""
        rows: list[list[tuple[int, int | None]]] = [[]]
        last_comma = -1
        for token, span in self._units(ids):
            width = span[1] if span else 1
            row = rows[-1]
            if span is None and token == self._comma:
                last_comma = len(row)
            elif len(row) == CHUNK and last_comma != -1 and len(row) - last_comma <= _BACKTRACK:
                rows[-1], rest = row[: last_comma + 1], row[last_comma + 1 :]
                rows.append(rest)
                last_comma = -1
            if len(rows[-1]) + width > CHUNK:
                rows.append([])
                last_comma = -1
            if span is None:
                rows[-1].append((token, None))
            else:
                rows[-1].extend((0, span[0] + offset) for offset in range(span[1]))
        return rows

    def _rows(self, split: list[list[tuple[int, int | None]]]) -> PlacedText:
        encoder = self._encoder
        ids = torch.full((len(split), CHUNK + 2), encoder.pad_id, dtype=torch.int64)
        rows, columns, vectors = [], [], []
        for row, content in enumerate(split):
            ids[row, 0] = encoder.start_id
            ids[row, len(content) + 1] = encoder.end_id
            for column, (token, vector) in enumerate(content, start=1):
                ids[row, column] = token
                if vector is not None:
                    rows.append(row)
                    columns.append(column)
                    vectors.append(vector)
        return PlacedText(ids, tuple(rows), tuple(columns), tuple(vectors))
