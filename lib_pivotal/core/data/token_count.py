"""Counts the tokens of captions, in which a name takes up as many as it has vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.families import CHUNK_TOKENS

__all__ = ["TokenCounter", "chunks_of"]


def chunks_of(tokens: int) -> int:
    """Number of prompt chunks that at least are needed for this many tokens."""
    return max(1, math.ceil(tokens / CHUNK_TOKENS))


class TokenCounter:
    """Counts tokens.

    Args:
        tokenizer: text → token ids.
        concepts: their names count as their vectors.
    """

    def __init__(self, tokenizer: Callable[[str], list[int]], concepts: Sequence[Concept]) -> None:
        self._tokenizer = tokenizer
        self._names: dict[int, list[tuple[list[int], int]]] = {}
        for concept in concepts:
            ids = tokenizer(concept.name)
            if ids:
                vectors = concept.vectors or max(1, len(tokenizer(concept.init_text)))
                self._names.setdefault(ids[0], []).append((ids, vectors))
        for entries in self._names.values():
            entries.sort(key=lambda entry: len(entry[0]), reverse=True)

    @property
    def most_added(self) -> int:
        """How many tokens the names of a caption may have in addition to their own, each used once."""
        return sum(vectors for entries in self._names.values() for _, vectors in entries)

    def count(self, text: str) -> int:
        """Number of tokens of a text, without start and end."""
        ids = self._tokenizer(text)
        count = at = 0
        while at < len(ids):
            length, width = self._unit_at(ids, at)
            count += width
            at += length
        return count

    def _unit_at(self, ids: list[int], at: int) -> tuple[int, int]:
        """Number of ids of the name or token at a position, and of the tokens that it takes up."""
        for name, vectors in self._names.get(ids[at], ()):
            if ids[at : at + len(name)] == name:
                return len(name), vectors
        return 1, 1
