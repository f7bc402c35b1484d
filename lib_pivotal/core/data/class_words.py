"""Captions in words that the unchanged model knows, instead of the names that are being trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from lib_pivotal.core.config.concept import Concept

__all__ = ["class_noun", "with_words"]


def class_noun(concept: Concept) -> str:
    """What a concept is in a word: its class, or else the last word of its initialization text; empty without both."""
    return concept.class_noun.strip() or next(reversed(re.findall(r"[^\W_]+", concept.init_text)), "")


def with_words(concepts: Sequence[Concept], words_of: Callable[[Concept], str]) -> list[Concept]:
    """Concepts whose names and aliases a :class:`CaptionMaker` replaces with words.

    Args:
        concepts: those without words are left out.
        words_of: the words that replace the name of a concept.
    """
    pairs = [(concept, words_of(concept)) for concept in concepts]
    return [replace(concept, name=words, aliases=(concept.name, *concept.aliases)) for concept, words in pairs if words]
