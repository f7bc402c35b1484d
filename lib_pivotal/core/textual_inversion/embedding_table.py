"""The trainable token vectors: an fp32 table per text encoder, separate from the vocabulary, which never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.optim.flat import FlatParameters
from lib_pivotal.core.ports import LiveEmbeddings, TextEncoder

__all__ = ["EmbeddingTable", "EmbeddingWeights", "Layout", "initial_vectors", "layout_of", "vector_count"]

Layout = Mapping[str, tuple[int, int]]
"""Embedding name → (first row, number of rows) in the table of every encoder."""

_NORM_BAND = (0.5, 1.5)
"""Norms may vary freely between these multiples of the initial norm, or of the vocabulary's norm for noise."""

_SAMPLED = 16
"""Every 16th row is enough for statistics of the vocabulary and avoids copying it."""

_SMALLEST_NORM = 1e-8
"""Divisors are at least this large, in case a vector is zero."""


@dataclass(frozen=True)
class EmbeddingWeights:
    """Vectors of all embeddings for all encoders, during or after training.

    Attributes:
        layout: the rows of each embedding.
        weights: encoder name → fp32 on the model's device, shape ``(rows, width)``.
    """

    layout: Layout = field(default_factory=dict)
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, embeddings: LiveEmbeddings, device: torch.device) -> EmbeddingWeights:
        """Stack individual embeddings into one table per encoder.

        Args:
            embeddings: embeddings with the same encoders; each has equally many vectors for every encoder.
            device: device of the tables.
        """
        layout: dict[str, tuple[int, int]] = {}
        rows: dict[str, list[torch.Tensor]] = {}
        first = 0
        for name, encoders in embeddings.items():
            for encoder, vectors in encoders.items():
                rows.setdefault(encoder, []).append(vectors.detach().float())
                count = len(vectors)
            layout[name] = (first, count)
            first += count
        return cls(layout, {encoder: torch.cat(parts).to(device) for encoder, parts in rows.items()})


def vector_count(concept: Concept, encoder: TextEncoder) -> int:
    """Number of vectors of a concept: the setting, or the tokens of its initialization text, at least 1."""
    return concept.vectors or max(1, len(encoder.tokenize(concept.init_text)))


def layout_of(concepts: Sequence[Concept], encoder: TextEncoder) -> Layout:
    """Rows of every concept, in order.

    ``encoder`` is the model's first one; it decides for all encoders, so that every table has the same rows.
    """
    layout, first = {}, 0
    for concept in concepts:
        count = vector_count(concept, encoder)
        layout[concept.name] = (first, count)
        first += count
    return layout


def initial_vectors(concept: Concept, count: int, encoder: TextEncoder, generator: torch.Generator) -> torch.Tensor:
    """The vectors of the initialization text, then noise around their mean, or the vocabulary's if there are none.

    The noise spreads as the vocabulary does.

    Args:
        concept: its ``init_text`` is used.
        count: number of vectors.
        encoder: its vocabulary and tokenizer are used.
        generator: CPU generator for the noise.

    Returns:
        fp32 on the CPU, shape ``(count, width)``.
    """
    vocabulary = encoder.token_vectors().detach()
    tokens = encoder.tokenize(concept.init_text)[:count]
    sample = vocabulary[::_SAMPLED].float().cpu()
    noise = sample.std(0) * torch.randn(count, encoder.width, generator=generator)
    if not tokens:
        return sample.mean(0) + noise
    words = vocabulary[torch.tensor(tokens, device=vocabulary.device)].float().cpu()
    return torch.cat([words, words.mean(0) + noise[len(tokens) :]])


def _noise_rows(concepts: Sequence[Concept], layout: Layout, encoder: TextEncoder) -> torch.Tensor:
    """Which rows the initialization texts do not fill, bool, shape ``(rows,)``."""
    parts = [torch.arange(layout[concept.name][1]) >= len(encoder.tokenize(concept.init_text)) for concept in concepts]
    return torch.cat(parts)


class EmbeddingTable:
    """All embeddings of one encoder: one weight for the forward pass, one optimizer parameter per concept.

    Args:
        concepts: in the order of the rows.
        layout: see :func:`layout_of`.
        encoder: provides initial vectors and width.
        seed: seed of the noise fill.
        device: device of the table.

    Attributes:
        weight: fp32, shape ``(rows, width)``, with a preset gradient.
        parameters: concept name → its rows, sharing memory with ``weight``.
    """

    def __init__(
        self, concepts: Sequence[Concept], layout: Layout, encoder: TextEncoder, seed: int, device: torch.device
    ) -> None:
        self.encoder_name = encoder.name
        self._layout = layout
        total = sum(count for _, count in layout.values())
        group = FlatParameters(encoder.name, [(total, encoder.width)], device)
        self.weight = group.leaves[0]
        generator = torch.Generator().manual_seed(seed)
        start = [initial_vectors(concept, layout[concept.name][1], encoder, generator) for concept in concepts]
        with torch.no_grad():
            self.weight.copy_(torch.cat(start))
        self.parameters = {name: self._parameter(first, count) for name, (first, count) in layout.items()}
        initial: torch.Tensor = torch.linalg.vector_norm(self.weight.detach(), dim=1)
        usual = torch.linalg.vector_norm(encoder.token_vectors().detach()[::_SAMPLED].float(), dim=1).median()
        is_noise = _noise_rows(concepts, layout, encoder).to(device)
        middle = torch.where(is_noise, usual.to(device), initial)
        self._low, self._high = _NORM_BAND[0] * middle, _NORM_BAND[1] * middle
        self._initial_norms = initial.clamp(min=_SMALLEST_NORM)
        self._trained = torch.ones_like(initial)
        self._frozen: set[str] = set()

    def _parameter(self, first: int, count: int) -> torch.nn.Parameter:
        rows = slice(first, first + count)
        parameter = torch.nn.Parameter(self.weight.detach()[rows])
        assert self.weight.grad is not None
        parameter.grad = self.weight.grad[rows]
        return parameter

    def freeze(self, name: str) -> None:
        """Exclude a concept from the norm band, because its learning rate is 0 from now on; may be repeated."""
        if name not in self._frozen:
            first, count = self._layout[name]
            self._trained[first : first + count] = 0.0
            self._frozen.add(name)

    @torch.no_grad()
    def pull_norms(self, pull: float) -> None:
        """Pull vectors outside of the norm band part of the way back.

        Args:
            pull: fraction of the distance to the band's edge, 0 … 1.
        """
        norms: torch.Tensor = torch.linalg.vector_norm(self.weight, dim=1)
        inside = torch.maximum(torch.minimum(norms, self._high), self._low)
        target = norms + pull * self._trained * (inside - norms)
        self.weight.mul_((target / norms.clamp(min=_SMALLEST_NORM)).unsqueeze(1))

    def relative_norms(self) -> torch.Tensor:
        """Norm of each vector divided by its initial norm, shape ``(rows,)``, on the device."""
        norms: torch.Tensor = torch.linalg.vector_norm(self.weight.detach(), dim=1)
        return norms / self._initial_norms

    def values(self) -> dict[str, torch.Tensor]:
        """Name → vectors, fp32 on the CPU, copies, shape ``(n_vectors, width)``."""
        weight = self.weight.detach().cpu()
        return {name: weight[first : first + count].clone() for name, (first, count) in self._layout.items()}
