"""Splits a prompt or caption into chunks of 77 token ids with slots for embedding vectors, as a generation does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from lib_pivotal.core.families import CHUNK_TOKENS
from lib_pivotal.core.textual_inversion.emphasis import parse_emphasis

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
        weights: how much each token counts, fp32 on the CPU, shape ``(chunks, 77)``; None without emphasis.
    """

    ids: torch.Tensor
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    vectors: tuple[int, ...]
    weights: torch.Tensor | None = None


class _Slot(NamedTuple):
    """A token, or a vector of an embedding, with its weight."""

    token: int
    vector: int | None
    weight: float


class PromptChunker:
    """Tokenizes prompts and replaces names with slots for their embeddings.

    Names are matched as runs of token ids, longest first, as in webuis.

    Args:
        encoder: provides tokenizer and special token ids.
        layout: embedding name → (first row, number of rows) in the embedding table.
        has_emphasis: whether brackets weigh what is in them; otherwise prompts are taken literally.
    """

    def __init__(
        self, encoder: EncoderTokens, layout: Mapping[str, tuple[int, int]], *, has_emphasis: bool = False
    ) -> None:
        self._encoder = encoder
        self._has_emphasis = has_emphasis
        self._comma = encoder.tokenize(",")[-1]
        self._names: dict[int, list[tuple[tuple[int, ...], tuple[int, int]]]] = {}
        for name, span in layout.items():
            ids = tuple(encoder.tokenize(name))
            self._names.setdefault(ids[0], []).append((ids, span))
        for entries in self._names.values():
            entries.sort(key=lambda entry: len(entry[0]), reverse=True)

    def chunk(self, text: str) -> ChunkedPrompt:
        """Chunks of a prompt; at least one, even for an empty text."""
        pieces = parse_emphasis(text) if self._has_emphasis else [(text, 1.0)]
        # As in a generation, each piece is tokenized by itself.
        units = [unit for piece, weight in pieces for unit in self._units(self._encoder.tokenize(piece), weight)]
        return self._assemble(self._split(units))

    def padded(self, prompt: ChunkedPrompt, chunks: int) -> ChunkedPrompt:
        """The same prompt followed by empty chunks, up to ``chunks`` in all."""
        missing = chunks - len(prompt.ids)
        if missing <= 0:
            return prompt
        empty = self._assemble([[]] * missing)
        weights = prompt.weights
        if weights is not None:
            weights = torch.cat([weights, torch.ones(missing, weights.shape[1])])
        return ChunkedPrompt(torch.cat([prompt.ids, empty.ids]), prompt.rows, prompt.columns, prompt.vectors, weights)

    def _units(self, ids: Sequence[int], weight: float) -> list[tuple[int, tuple[int, int] | None, float]]:
        """Tokens and embeddings in order: ``(id, None, weight)`` or ``(0, span, weight)``."""
        units: list[tuple[int, tuple[int, int] | None, float]] = []
        at = 0
        while at < len(ids):
            for name, span in self._names.get(ids[at], ()):
                if tuple(ids[at : at + len(name)]) == name:
                    units.append((0, span, weight))
                    at += len(name)
                    break
            else:
                units.append((ids[at], None, weight))
                at += 1
        return units

    def _split(self, units: Sequence[tuple[int, tuple[int, int] | None, float]]) -> list[list[_Slot]]:
        """Chunks of slots; an embedding is never split, and a chunk ends at a nearby comma if possible."""
        chunks: list[list[_Slot]] = [[]]
        last_comma = -1
        for token, span, weight in units:
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
                chunks[-1].append(_Slot(token, None, weight))
            else:
                chunks[-1].extend(_Slot(0, span[0] + offset, weight) for offset in range(span[1]))
        return chunks

    def _assemble(self, chunks: Sequence[Sequence[_Slot]]) -> ChunkedPrompt:
        encoder = self._encoder
        ids = torch.full((len(chunks), CHUNK_TOKENS + 2), encoder.pad_id, dtype=torch.int64)
        rows, columns, vectors = [], [], []
        has_weights = any(slot.weight != 1.0 for content in chunks for slot in content)
        weights = torch.ones(ids.shape) if has_weights else None
        for row, content in enumerate(chunks):
            ids[row, 0] = encoder.start_id
            ids[row, len(content) + 1] = encoder.end_id
            if weights is not None:
                weights[row, 1 : len(content) + 1] = torch.tensor([slot.weight for slot in content])
            for column, (token, vector, _) in enumerate(content, start=1):
                ids[row, column] = token
                if vector is not None:
                    rows.append(row)
                    columns.append(column)
                    vectors.append(vector)
        return ChunkedPrompt(ids, tuple(rows), tuple(columns), tuple(vectors), weights)
