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

_NORM_RANGES = {"band": (0.5, 1.5), "direction": (1.0, 1.0), "free": (0.0, torch.inf)}
"""Setting → the multiples of its initial norm between which a vector's norm may vary."""

_SAMPLED = 16
"""Every 16th row is enough for statistics of the vocabulary and avoids copying it."""

_MIN_NORM = 1e-8
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

    The noise spreads as the vocabulary does, and each vector of it gets the mean norm of the initialization text, or
    the vocabulary's median, so that no vector starts weaker than a word.

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
        return _with_norm(sample.mean(0) + noise, _norms(sample).median())
    words = vocabulary[torch.tensor(tokens, device=vocabulary.device)].float().cpu()
    return torch.cat([words, _with_norm(words.mean(0) + noise[len(tokens) :], _norms(words).mean())])


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    """Norm of each row, shape ``(rows,)``."""
    norms: torch.Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return norms


def _with_norm(vectors: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """Rows of the same direction with one norm."""
    return vectors * (norm / _norms(vectors).clamp(min=_MIN_NORM)).unsqueeze(1)


class EmbeddingTable:
    """All embeddings of one encoder: one weight for the forward pass, one optimizer parameter per concept.

    Args:
        concepts: in the order of the rows.
        layout: see :func:`layout_of`.
        encoder: provides initial vectors and width.
        seed: seed of the noise fill.
        norms: how far the norms may vary: ``band``, ``direction`` or ``free``.
        device: device of the table.
        kept: names in ``layout`` after those of the concepts, whose rows are never trained.

    Attributes:
        weight: fp32, shape ``(rows, width)``, with a preset gradient.
        parameters: name → its rows, sharing memory with ``weight``.
        initial_norms: see :meth:`set_initial_norms`.
    """

    def __init__(
        self,
        concepts: Sequence[Concept],
        layout: Layout,
        encoder: TextEncoder,
        *,
        seed: int,
        norms: str,
        device: torch.device,
        kept: Sequence[str] = (),
    ) -> None:
        self.encoder_name = encoder.name
        self._layout = layout
        total = sum(count for _, count in layout.values())
        group = FlatParameters(encoder.name, [(total, encoder.width)], device)
        self.weight = group.leaves[0]
        generator = torch.Generator().manual_seed(seed)
        start = [initial_vectors(concept, layout[concept.name][1], encoder, generator) for concept in concepts]
        start += [torch.zeros(layout[name][1], encoder.width) for name in kept]
        with torch.no_grad():
            self.weight.copy_(torch.cat(start))
        self.parameters = {name: self._parameter(first, count) for name, (first, count) in layout.items()}
        self._frozen: set[str] = set()
        self._norm_range = _NORM_RANGES[norms]
        self.set_initial_norms(_norms(self.weight.detach()))
        for name in kept:
            self.freeze(name)

    def _parameter(self, first: int, count: int) -> torch.nn.Parameter:
        rows = slice(first, first + count)
        parameter = torch.nn.Parameter(self.weight.detach()[rows])
        assert self.weight.grad is not None
        parameter.grad = self.weight.grad[rows]
        return parameter

    def freeze(self, name: str) -> None:
        """Leave a concept's norms as they are, because its learning rate is 0 from now on; may be repeated."""
        if name not in self._frozen:
            self._frozen.add(name)
            self._leave_free(name)

    def _leave_free(self, name: str) -> None:
        first, count = self._layout[name]
        rows = slice(first, first + count)
        self._lowest[rows], self._highest[rows] = _NORM_RANGES["free"]

    def set_initial_norms(self, norms: torch.Tensor) -> None:
        """Set the norms that the allowed range and the relative norms count from; before the training only.

        Args:
            norms: shape ``(rows,)``.
        """
        self.initial_norms = norms.to(self.weight.device).clamp(min=_MIN_NORM)
        lowest, highest = self._norm_range
        self._lowest, self._highest = lowest * self.initial_norms, highest * self.initial_norms
        for name in self._frozen:
            self._leave_free(name)

    @torch.no_grad()
    def limit_norms(self) -> None:
        """Bring vectors that have left the range of their norms back to its edge, in their direction."""
        if len(self._frozen) == len(self._layout):
            return
        norms = _norms(self.weight)
        inside = norms.clamp(self._lowest, self._highest)
        self.weight.mul_((inside / norms.clamp(min=_MIN_NORM)).unsqueeze(1))

    def relative_norms(self) -> torch.Tensor:
        """Norm of each vector divided by its initial norm, shape ``(rows,)``, on the device."""
        return _norms(self.weight.detach()) / self.initial_norms

    def values(self) -> dict[str, torch.Tensor]:
        """Name → vectors, fp32 on the CPU, copies, shape ``(n_vectors, width)``."""
        weight = self.weight.detach().cpu()
        return {name: weight[first : first + count].clone() for name, (first, count) in self._layout.items()}
