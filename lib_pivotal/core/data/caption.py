"""Captions as they vary from step to step: names in front, tags shuffled and sometimes left out."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

from lib_pivotal.core.config.schema import Concept, TrainConfig

__all__ = ["CaptionMaker", "plain_words", "split_tags"]

_SEPARATOR = re.compile(r"\s*,\s*")
_ESCAPED = re.compile(r"\\([()\[\]])")

_SENTENCE_FROM = 6
"""Words from which a part between commas is a sentence and no tag."""


def split_tags(caption: str) -> list[str]:
    """Comma-separated parts of a caption without empty ones, escaped brackets bare as a generation sees them.

    Host: modules/prompt_parser.py, ``parse_prompt_attention``, A1111 1.6.1-1.10.1: an escaped bracket of a prompt
        reaches the text encoder without its backslash.
    """
    return [_bare(tag) for tag in _SEPARATOR.split(caption.strip()) if tag]


def plain_words(tag: str) -> str:
    """A tag as it is compared: lower case, ``_`` as space, escaped brackets bare, single spaces."""
    return " ".join(_bare(tag).lower().replace("_", " ").split())


def _bare(tag: str) -> str:
    return _ESCAPED.sub(r"\1", tag)


class CaptionMaker:
    """Makes the caption of a step from the caption of a picture.

    An alias stands for its concept where it is a whole tag. Only in prose, which has no tags, it is looked for between
    other words: ``girl`` must leave ``magical girl`` alone.

    Args:
        concepts: their names are protected, their aliases are replaced by the names.
        config: shuffle_tags, tag_dropout, name_only and caption_dropout are used.
    """

    def __init__(self, concepts: Sequence[Concept], config: TrainConfig) -> None:
        self._shuffle = config.shuffle_tags
        self._tag_dropout = config.tag_dropout
        self._name_only = config.name_only
        self._caption_dropout = config.caption_dropout
        self._names = _names_by_words(concepts)
        # Where a name is written, the text encoder finds it, tag or not.
        self._in_tags = _pattern(plain_words(concept.name) for concept in concepts)
        self._in_prose = _pattern(self._names)
        self._parsed: dict[str, tuple[list[str], list[str], str]] = {}

    def normalise(self, caption: str) -> str:
        """The caption with aliases replaced by names; nothing else changes."""
        return ", ".join(text for text, _ in self._replaced(caption))

    def concepts_in(self, caption: str) -> set[str]:
        """Names of the concepts that the caption mentions, by name or alias."""
        return {name for _, found in self._replaced(caption) for name in found}

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
        for text, found in self._replaced(caption):
            (protected if found else rest).append(text)
            names += [name for name in found if name not in names]
        return protected, rest, ", ".join(names)

    def _replaced(self, caption: str) -> list[tuple[str, list[str]]]:
        """Each tag with aliases replaced, and the concepts it mentions, in order."""
        tags = split_tags(caption)
        return [self._replaced_in(tag, is_prose=len(tags) == 1 or len(tag.split()) >= _SENTENCE_FROM) for tag in tags]

    def _replaced_in(self, tag: str, *, is_prose: bool) -> tuple[str, list[str]]:
        whole = self._names.get(plain_words(tag))
        if whole is not None:
            return whole, [whole]
        found: list[str] = []

        def replace(match: re.Match[str]) -> str:
            # Letters without a pair, as the dotless i, fit the pattern and not the table.
            name = self._names.get(plain_words(match.group()))
            if name is None:
                return match.group()
            found.append(name)
            return name

        # One pass over all concepts: what was put in is not looked at again.
        return (self._in_prose if is_prose else self._in_tags).sub(replace, tag), found


def _names_by_words(concepts: Sequence[Concept]) -> dict[str, str]:
    """What stands for a concept, as :func:`plain_words`, to its name; a name counts before an alias."""
    result: dict[str, str] = {}
    for concept in concepts:
        result.setdefault(plain_words(concept.name), concept.name)
    for concept in concepts:
        for alias in concept.aliases:
            result.setdefault(plain_words(alias), concept.name)
    result.pop("", None)
    return result


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the words between other words, the longest first; ``_`` is a space within and a letter around."""
    escaped = [re.escape(word) for word in sorted(words, key=len, reverse=True) if word]
    flexible = [word.replace(r"\ ", r"[\s_]+") for word in escaped]
    # Nothing at all is never found.
    return re.compile(rf"(?<!\w)(?:{'|'.join(flexible)})(?!\w)" if flexible else r"(?!)", re.IGNORECASE)
