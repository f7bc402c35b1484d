"""Makes initialization texts from core tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.core_tags.evidence import Evidence
from lib_pivotal.core.core_tags.tagged_image import plain_tag
from lib_pivotal.core.families import CHUNK_TOKENS

__all__ = ["initialization_text"]

_NOUNS = (
    ("mature female", "woman"),
    ("mature male", "man"),
    ("1girl", "girl"),
    ("1boy", "boy"),
    ("no humans", "creature"),
)
"""Tags of most images, and the noun that follows; the first one counts."""
_MIN_SHARE = 0.5
_BRACKETS = re.compile(r"\s*\([^()]*\)|[()\[\]{}]")


def initialization_text(
    concept: Concept, ticked: Sequence[str], evidence: Evidence, tokenizer: Callable[[str], list[int]] | None
) -> str:
    """A noun and as many core tags as the vectors of a concept can hold; empty for a style.

    Only whole tags are used; a tag that does not fit is left out.

    Args:
        concept: its own core tags count if it has any.
        ticked: suggested core tags, the most telling first.
        evidence: tells the noun.
        tokenizer: text → token ids; None counts words instead.
    """
    if concept.name in evidence.styles:
        return ""
    room = concept.vectors or CHUNK_TOKENS
    text = ""
    for part in (_noun(concept, evidence), *(plain_tag(tag) for tag in concept.core_tags or ticked)):
        words = " ".join(_BRACKETS.sub(" ", part).split())
        longer = f"{text} {words}".strip()
        # A noun that a tag repeats, such as "robot", is not written twice.
        if words and words not in text.split() and _length(longer, tokenizer) <= room:
            text = longer
    return text


def _noun(concept: Concept, evidence: Evidence) -> str:
    if concept.class_noun.strip():
        return concept.class_noun.strip()
    counts = evidence.counts(concept.name)
    total = len(evidence.alone(concept.name) if evidence.is_known(concept.name) else evidence.of(concept.name))
    return next((noun for tag, noun in _NOUNS if total and counts[tag] >= _MIN_SHARE * total), "")


def _length(text: str, tokenizer: Callable[[str], list[int]] | None) -> int:
    return len(text.split()) if tokenizer is None else len(tokenizer(text))
