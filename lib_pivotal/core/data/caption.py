"""Captions as they vary from step to step: names in front, tags shuffled and sometimes left out."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lib_pivotal.core.config.schema import Concept, TrainConfig

__all__ = ["CaptionMaker", "plain_words", "split_tags"]

_SEPARATOR = re.compile(r"\s*,\s*")


def split_tags(caption: str) -> list[str]:
    """Comma-separated parts of a caption without empty ones."""
    return [tag for tag in _SEPARATOR.split(caption.strip()) if tag]


def plain_words(tag: str) -> str:
    """A tag as it is compared: lower case, ``_`` as space, escaped brackets bare, single spaces."""
    return " ".join(tag.lower().replace("\\(", "(").replace("\\)", ")").replace("_", " ").split())


@dataclass(frozen=True)
class _Matcher:
    name: str
    whole: frozenset[str]
    inside: re.Pattern[str]


class CaptionMaker:
    """Makes the caption of a step from the caption of a picture.

    Args:
        concepts: their names are protected, their aliases are replaced by the names.
        config: shuffle_tags, tag_dropout, name_only and caption_dropout are used.
    """

    def __init__(self, concepts: Sequence[Concept], config: TrainConfig) -> None:
        self._shuffle = config.shuffle_tags
        self._tag_dropout = config.tag_dropout
        self._name_only = config.name_only
        self._caption_dropout = config.caption_dropout
        self._matchers = [_matcher(concept) for concept in concepts]
        self._parsed: dict[str, tuple[list[str], list[str], str]] = {}

    def normalise(self, caption: str) -> str:
        """The caption with aliases replaced by names; nothing else changes."""
        return ", ".join(self._replaced(tag)[0] for tag in split_tags(caption))

    def concepts_in(self, caption: str) -> set[str]:
        """Names of the concepts that the caption mentions, by name or alias."""
        return {name for tag in split_tags(caption) for name in self._replaced(tag)[1]}

    def vary(self, caption: str, rng: random.Random) -> str:
        """The caption of one step; a pure function of the caption and the generator's state.

        With chance ``caption_dropout`` it is empty, with chance ``name_only`` only the names are left;
        otherwise parts that mention a concept come first and unchanged, and the rest is shuffled and
        thinned out.
        """
        if caption not in self._parsed:
            self._parsed[caption] = self._parse(caption)
        protected, rest, names = self._parsed[caption]
        chance = rng.random()
        if chance < self._caption_dropout:
            return ""
        if names and chance < self._caption_dropout + self._name_only:
            return names
        if self._tag_dropout > 0:
            rest = [tag for tag in rest if rng.random() >= self._tag_dropout]
        if self._shuffle:
            rest = rng.sample(rest, len(rest))
        return ", ".join([*protected, *rest])

    def _parse(self, caption: str) -> tuple[list[str], list[str], str]:
        protected: list[str] = []
        rest: list[str] = []
        names: list[str] = []
        for tag in split_tags(caption):
            text, found = self._replaced(tag)
            (protected if found else rest).append(text)
            names += [name for name in found if name not in names]
        return protected, rest, ", ".join(names)

    def _replaced(self, tag: str) -> tuple[str, list[str]]:
        """The tag with aliases replaced, and the concepts it mentions in order of the table."""
        plain = plain_words(tag)
        for matcher in self._matchers:
            if plain in matcher.whole:
                return matcher.name, [matcher.name]
        found = []
        for matcher in self._matchers:
            # Names hold no backslash (bundle/names.py), so they need no escaping here.
            replaced, count = matcher.inside.subn(matcher.name, tag)
            if count:
                tag = replaced
                found.append(matcher.name)
        return tag, found


def _matcher(concept: Concept) -> _Matcher:
    words = sorted({plain_words(text) for text in (concept.name, *concept.aliases) if text.strip()}, key=len)[::-1]
    # A space in an alias also stands for an underscore; brackets may be escaped in the caption.
    patterns = [
        re.escape(word).replace(r"\ ", r"[\s_]+").replace(r"\(", r"\\?\(").replace(r"\)", r"\\?\)") for word in words
    ]
    inside = re.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", re.IGNORECASE)
    return _Matcher(concept.name, frozenset(words), inside)
