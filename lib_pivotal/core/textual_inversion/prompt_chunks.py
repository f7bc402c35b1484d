"""Splits a prompt or caption into chunks of 77 token ids with slots for embedding vectors, as a generation does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from lib_pivotal.core.families import CHUNK_TOKENS

__all__ = ["ChunkedPrompt", "EncoderTokens", "PromptChunker"]

_BACKTRACK = 20
"""Maximum number of tokens by which a full chunk is cut back to its last comma.

Host: modules/sd_hijack_clip.py, tokenize_line with opts.comma_padding_backtrack = 20 (the default),
A1111 1.6.1-1.10.1.
"""


class EncoderTokens(Protocol):
    """The part of a text encoder's interface that is needed here."""

    start_id: int
    end_id: int
    pad_id: int

    def tokenize(self, text: str) -> list[int]:
        """Token ids of ``text`` without start and end tokens."""
        ...


@dataclass(frozen=True)
class ChunkedPrompt:
    """A prompt or caption split into chunks.

    Attributes:
        ids: int64 on the CPU, shape ``(chunks, 77)``; 0 where a vector goes.
        rows: chunk of each vector.
        columns: column of each vector, 1 … 75.
        vectors: row of each vector in the embedding table.
    """

    ids: torch.Tensor
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    vectors: tuple[int, ...]


class PromptChunker:
    """Tokenizes prompts literally and replaces names with slots for their embeddings.

    Names are matched as runs of token ids, longest first, as in webuis.

    Args:
        encoder: provides tokenizer and special token ids.
        layout: embedding name → (first row, number of rows) in the embedding table.
    """

    def __init__(self, encoder: EncoderTokens, layout: Mapping[str, tuple[int, int]]) -> None:
        self._encoder = encoder
        self._comma = encoder.tokenize(",")[-1]
        self._names: dict[int, list[tuple[tuple[int, ...], tuple[int, int]]]] = {}
        for name, span in layout.items():
            ids = tuple(encoder.tokenize(name))
            self._names.setdefault(ids[0], []).append((ids, span))
        for entries in self._names.values():
            entries.sort(key=lambda entry: len(entry[0]), reverse=True)

    def chunk(self, text: str) -> ChunkedPrompt:
        """Chunks of a prompt; at least one, even for an empty text."""
        return self._assemble(self._split(self._encoder.tokenize(text)))

    def padded(self, prompt: ChunkedPrompt, chunks: int) -> ChunkedPrompt:
        """The same prompt followed by empty chunks, up to ``chunks`` in all."""
        missing = chunks - len(prompt.ids)
        if missing <= 0:
            return prompt
        empty = self._assemble([[]] * missing)
        return ChunkedPrompt(torch.cat([prompt.ids, empty.ids]), prompt.rows, prompt.columns, prompt.vectors)

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
        """Chunks of ``(id, vector)``; an embedding is never split, and a chunk ends at a nearby comma if possible."""
        chunks: list[list[tuple[int, int | None]]] = [[]]
        last_comma = -1
        for token, span in self._units(ids):
            width = span[1] if span else 1
            chunk = chunks[-1]
            if span is None and token == self._comma:
                last_comma = len(chunk)
            elif len(chunk) == CHUNK_TOKENS and last_comma != -1 and len(chunk) - last_comma <= _BACKTRACK:
                chunks[-1], rest = chunk[: last_comma + 1], chunk[last_comma + 1 :]
                chunks.append(rest)
                last_comma = -1
            if len(chunks[-1]) + width > CHUNK_TOKENS:
                chunks.append([])
                last_comma = -1
            if span is None:
                chunks[-1].append((token, None))
            else:
                chunks[-1].extend((0, span[0] + offset) for offset in range(span[1]))
        return chunks

    def _assemble(self, chunks: list[list[tuple[int, int | None]]]) -> ChunkedPrompt:
        encoder = self._encoder
        ids = torch.full((len(chunks), CHUNK_TOKENS + 2), encoder.pad_id, dtype=torch.int64)
        rows, columns, vectors = [], [], []
        for row, content in enumerate(chunks):
            ids[row, 0] = encoder.start_id
            ids[row, len(content) + 1] = encoder.end_id
            for column, (token, vector) in enumerate(content, start=1):
                ids[row, column] = token
                if vector is not None:
                    rows.append(row)
                    columns.append(column)
                    vectors.append(vector)
        return ChunkedPrompt(ids, tuple(rows), tuple(columns), tuple(vectors))
