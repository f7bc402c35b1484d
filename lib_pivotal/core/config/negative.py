"""Negative embeddings: a concept may have a second embedding, for the negative prompt, that is trained with the first.

Source: Dong et al. 2022, DreamArtist, https://arxiv.org/abs/2211.11337
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lib_pivotal.core.config.concept import Concept

__all__ = ["has_negatives", "negative_name", "negative_names", "negatives_of", "trained_embeddings"]

_PREFIX = "neg_"
"""A suffix would begin with the tokens of the concept's own name, which a prompt would find first."""


def negative_name(name: str) -> str:
    """Name of the negative embedding of a concept with this name."""
    return _PREFIX + name


def has_negatives(concepts: Iterable[Concept]) -> bool:
    """Whether any concept has a negative embedding."""
    return any(concept.negative_vectors for concept in concepts)


def trained_embeddings(concepts: Sequence[Concept]) -> tuple[Concept, ...]:
    """All embeddings of a run: the concepts, then the negative embeddings of those that have one.

    A negative embedding is a concept that captions never mention; it starts from the same initialization text.
    """
    negatives = [
        replace(
            concept,
            name=negative_name(concept.name),
            vectors=concept.negative_vectors,
            negative_vectors=0,
            aliases=(),
            core_tags=(),
        )
        for concept in concepts
        if concept.negative_vectors
    ]
    return (*concepts, *negatives)


def negative_names(concepts: Iterable[Concept]) -> str:
    """What to type in the negative prompt, separated by commas; empty without negative embeddings."""
    return ", ".join(negative_name(concept.name) for concept in concepts if concept.negative_vectors)


def negatives_of(concepts: Sequence[Concept], kept: Iterable[str] = ()) -> dict[str, str]:
    """The negative embeddings of a run → the names that they belong to.

    Args:
        concepts: the trained concepts.
        kept: names that the run keeps without training them; its negative ones have a name of ours.
    """
    there = list(kept)
    trained = {negative_name(concept.name): concept.name for concept in concepts if concept.negative_vectors}
    names = [*(concept.name for concept in concepts), *there]
    return {**trained, **{negative_name(name): name for name in names if negative_name(name) in there}}
