"""One embedding to train."""

from __future__ import annotations

from dataclasses import dataclass

from lib_pivotal.core.config.setting import setting

__all__ = ["Concept"]


@dataclass(frozen=True)
class Concept:
    """One embedding to train. A new field here appears automatically in JSON, tab, checks, docs and metadata."""

    name: str = setting(
        "", "concepts", "basic", "Name", "The new word you will type in prompts. Pick a made-up word, such as zog_v1."
    )
    init_text: str = setting(
        "",
        "concepts",
        "basic",
        "Initialization text",
        "What the concept is, in words the model knows: small teal robot. Empty starts from noise.",
    )
    vectors: int = setting(
        4,
        "concepts",
        "basic",
        "Vectors",
        "Number of tokens the name takes up; 0 uses as many as the initialization text has.",
        low=0,
        high=75,
    )
    aliases: tuple[str, ...] = setting(
        (),
        "concepts",
        "basic",
        "Caption tags",
        "Tags in the captions that mean this concept, separated by commas; training replaces them with the name.",
    )
    lr_multiplier: float = setting(
        1.0,
        "concepts",
        "advanced",
        "LR multiplier",
        "Multiplies the embedding learning rate for this concept; 1 is usual.",
        low=0.0,
        high=100.0,
        is_low_excluded=True,
    )
    stop_at: float = setting(
        0.7,
        "concepts",
        "advanced",
        "Stop training at",
        "Fraction of training after which this embedding is frozen; 0.7 is usual.",
        low=0.0,
        high=1.0,
        is_low_excluded=True,
    )
    core_tags: tuple[str, ...] = setting(
        (),
        "concepts",
        "advanced",
        "Core tags",
        "Tags of what never changes about the concept. Captions leave them out, so that the name learns it.",
    )
    class_noun: str = setting(
        "",
        "concepts",
        "advanced",
        "Class",
        "What the concept is, in a word or two: girl, robot. With a prior, it replaces the name in the captions of "
        "regularization images; empty takes the last word of the initialization text.",
    )
    weight: float = setting(
        1.0,
        "concepts",
        "advanced",
        "Weight",
        "How much of the training the concept gets, compared to the others; 1 is usual.",
        low=0.0,
        high=100.0,
        is_low_excluded=True,
    )
    negative_vectors: int = setting(
        0,
        "concepts",
        "advanced",
        "Negative vectors",
        "Vectors of a second embedding, neg_NAME for the negative prompt, that is trained together with the name, as "
        "in DreamArtist. Steps take twice as long, and prompts are followed less; 0, which trains none, is usual.",
        low=0,
        high=75,
    )
