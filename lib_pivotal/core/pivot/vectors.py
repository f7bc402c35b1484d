"""The trainable vectors: one fp32 table an encoder, apart from the vocabulary, which is never touched."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.optim.flat import FlatGroup
from lib_pivotal.core.ports import LiveEmbeddings, TextEncoder

__all__ = ["ConceptVectors", "live_embeddings", "spans", "start_vectors", "vector_count"]

_FILL_SPREAD = 0.5
"""Noise fill, in standard deviations of the vocabulary."""

_BAND = (0.5, 1.5)
"""Norms may move freely between these multiples of the start norm."""


def vector_count(concept: Concept, encoder: TextEncoder) -> int:
    """Number of vectors of a concept: as asked, or as many as its start words have tokens, at least 1."""
    return concept.vectors or max(1, len(encoder.tokenize(concept.init_text)))


def spans(concepts: Sequence[Concept], encoder: TextEncoder) -> dict[str, tuple[int, int]]:
    """Place of every concept in the table: name → (first vector, number of vectors).

    ``encoder`` is the model's first one for all encoders, so that every encoder has the same rows.
    """
    result, start = {}, 0
    for concept in concepts:
        count = vector_count(concept, encoder)
        result[concept.name] = (start, count)
        start += count
    return result


def start_vectors(concept: Concept, count: int, encoder: TextEncoder, generator: torch.Generator) -> torch.Tensor:
    """Start value: the vectors of the start words, then noise around the vocabulary's mean.

    The noise has half the spread of the vocabulary, so that a filled vector says little at first.

    Args:
        concept: gives ``init_text``.
        count: number of vectors.
        encoder: gives vocabulary and tokeniser.
        generator: CPU generator of the noise.

    Returns:
        fp32 on the CPU, shape ``(count, width)``.
    """
    table = encoder.token_vectors().detach()
    words = encoder.tokenize(concept.init_text)[:count]
    # Every 16th row is plenty for two statistics and does not copy the vocabulary.
    sample = table[::16].float().cpu()
    noise = torch.randn(count, encoder.width, generator=generator)
    vectors = sample.mean(0) + _FILL_SPREAD * sample.std(0) * noise
    if words:
        vectors[: len(words)] = table[torch.tensor(words, device=table.device)].float().cpu()
    return vectors


class ConceptVectors:
    """All embeddings of one encoder, as a table for the forward pass and a part per concept for the optimiser.

    Args:
        concepts: in table order.
        layout: see :func:`spans`.
        encoder: gives start values and width.
        seed: of the noise fill.
        device: where the table lives.
    """

    def __init__(
        self,
        concepts: Sequence[Concept],
        layout: dict[str, tuple[int, int]],
        encoder: TextEncoder,
        seed: int,
        device: torch.device,
    ) -> None:
        self.encoder_name = encoder.name
        self.layout = layout
        total = sum(count for _, count in layout.values())
        group = FlatGroup(encoder.name, [(total, encoder.width)], device)
        self.table = group.leaves[0]
        generator = torch.Generator().manual_seed(seed)
        start = [start_vectors(c, layout[c.name][1], encoder, generator) for c in concepts]
        with torch.no_grad():
            self.table.copy_(torch.cat(start))
        self.parts = {name: self._part(first, count) for name, (first, count) in layout.items()}
        self._start_norms: torch.Tensor = torch.linalg.vector_norm(self.table.detach(), dim=1)
        self._movable = torch.ones_like(self._start_norms)

    def _part(self, first: int, count: int) -> torch.nn.Parameter:
        """The rows of one concept as an optimiser parameter that shares memory with the table."""
        rows = slice(first, first + count)
        part = torch.nn.Parameter(self.table.detach()[rows])
        assert self.table.grad is not None
        part.grad = self.table.grad[rows]
        return part

    def freeze(self, name: str) -> None:
        """Exclude one concept from the norm band; its learning rate is 0 from now on."""
        first, count = self.layout[name]
        self._movable[first : first + count] = 0.0

    @torch.no_grad()
    def keep_norms(self, pull: float) -> None:
        """Pull vectors that left the norm band part of the way back.

        Args:
            pull: fraction of the way to the band's edge, 0 … 1.
        """
        norms: torch.Tensor = torch.linalg.vector_norm(self.table, dim=1)
        low, high = _BAND[0] * self._start_norms, _BAND[1] * self._start_norms
        inside = torch.maximum(torch.minimum(norms, high), low)
        wanted = norms + pull * self._movable * (inside - norms)
        self.table.mul_((wanted / norms.clamp(min=1e-8)).unsqueeze(1))

    def relative_norms(self) -> torch.Tensor:
        """Norm of each vector over that at the start, shape ``(vectors,)``, on the device."""
        norms: torch.Tensor = torch.linalg.vector_norm(self.table.detach(), dim=1)
        return norms / self._start_norms.clamp(min=1e-8)

    def values(self) -> dict[str, torch.Tensor]:
        """Name → vectors, fp32 on the CPU, copies, shape ``(n_vectors, width)``."""
        table = self.table.detach().cpu()
        return {name: table[first : first + count].clone() for name, (first, count) in self.layout.items()}


def live_embeddings(tables: Sequence[ConceptVectors]) -> LiveEmbeddings:
    """All concepts over all encoders: name → encoder name → vectors ``(n_vectors, width)``."""
    result: dict[str, dict[str, torch.Tensor]] = {}
    for table in tables:
        for name, vectors in table.values().items():
            result.setdefault(name, {})[table.encoder_name] = vectors
    return result
