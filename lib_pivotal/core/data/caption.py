"""Varies captions from step to step: names in front, tags shuffled and sometimes dropped."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache

from lib_pivotal.core.config.schema import Concept, TrainConfig

__all__ = ["CaptionMaker", "is_sentence", "plain_words", "without_emphasis"]

_ESCAPED = re.compile(r"\\([()\[\]])")

_WEIGHT = re.compile(r"\s*:\s*-?\d*\.?\d+\s*$")
_MAX_WEIGHT_LENGTH = 12

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3"  # Hangul, where particles are attached to words
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
"""Letters of scripts that write words without spaces or with attached particles, as a character set for ``re``."""
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")

_MAX_LAYERS = 8
"""Maximum number of emphasis layers around a tag that are searched."""

_SENTENCE_FROM = 6
"""A part between commas with this many words is a sentence, not a tag; two unspaced letters make a word."""


def plain_words(tag: str) -> str:
    """Normalize a tag for comparison: NFC, lower case, ``_`` as space, unescaped brackets, single spaces."""
    return " ".join(_bare(_composed(tag)).lower().replace("_", " ").split())


def _tags(caption: str) -> list[str]:
    """Comma-separated parts of a caption, without empty ones."""
    return [tag for part in caption.split(",") if (tag := part.strip())]


def _bare(tag: str) -> str:
    """A tag as image generation sees it, without backslashes before brackets.

    Host: modules/prompt_parser.py, ``parse_prompt_attention``, A1111 1.6.1-1.10.1: an escaped bracket of a prompt
        reaches the text encoder without its backslash.
    """
    return _ESCAPED.sub(r"\1", tag)


def _composed(text: str) -> str:
    """The text with accented letters composed (NFC), as CLIP's tokenizers do it."""
    return unicodedata.normalize("NFC", text)


def is_sentence(tag: str) -> bool:
    """Whether a part between commas has so many words that it is a sentence and not a tag."""
    return len(tag.split()) + len(_UNSPACED_LETTER.findall(tag)) // 2 >= _SENTENCE_FROM


def without_emphasis(tag: str) -> Iterator[tuple[str, str, str]]:
    """Strip a prompt's emphasis from a tag, layer by layer; yields what is before it, the tag, and what is after it.

    Brackets need not be balanced, because the comma in ``((long hair, blue eyes:1.2))`` splits them between two tags.
    """
    before = after = ""
    for _ in range(_MAX_LAYERS):
        opens = tag[:1] in tuple("([{")
        closes = tag[-1:] in tuple(")]}") and tag[-2:-1] != "\\"
        weight = _WEIGHT.search(tag, max(0, len(tag) - _MAX_WEIGHT_LENGTH)) if after else None
        if closes:
            tag, after = tag[:-1], tag[-1] + after
        elif weight:
            tag, after = tag[: weight.start()], weight.group() + after
        if opens:
            before, tag = before + tag[0], tag[1:]
        if not (opens or closes or weight):
            return
        yield before, tag, after


class CaptionMaker:
    """Makes the caption of a step from the caption of an image.

    An alias stands for its concept only as a whole tag, because ``girl`` must not match in ``magical girl``. In prose,
    which has no tags, it may stand between other words.

    Args:
        concepts: their names are kept, and their aliases are replaced with the names.
        config: shuffle_tags, tag_dropout, name_only and caption_dropout are used.
        prune: tags without those that mention a concept, and names of the concepts in the caption → tags to keep.
    """

    def __init__(
        self,
        concepts: Sequence[Concept],
        config: TrainConfig,
        prune: Callable[[Sequence[str], Collection[str]], list[str]] | None = None,
    ) -> None:
        self._prune = prune
        self._shuffle_tags = config.shuffle_tags
        self._tag_dropout = config.tag_dropout
        self._name_only = config.name_only
        self._caption_dropout = config.caption_dropout
        self._names = _names_by_words(concepts)
        # The text encoder finds a name wherever it is written, as a tag or not.
        self._in_tags = _pattern(plain_words(concept.name) for concept in concepts)
        self._in_prose = _pattern(self._names)
        self._parsed: dict[str, tuple[list[str], list[str], str]] = {}
        # Searching a tag for many concepts is slow, and most tags of a data set are in many captions.
        self._replaced_in = lru_cache(maxsize=100_000)(self._search)

    def concepts_in(self, caption: str) -> set[str]:
        """Names of the concepts that the caption mentions, by name or alias."""
        return {name for _, found in self._replaced(caption) for name in found}

    def vary(self, caption: str, rng: random.Random) -> str:
        """The caption of one step, which depends only on the caption and the generator's state.

        With probability ``caption_dropout`` it is empty, with probability ``name_only`` it is reduced to the names;
        otherwise parts that mention a concept come first and unchanged, and the others are shuffled and
        randomly dropped.
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
        if self._shuffle_tags:
            rest = rng.sample(rest, len(rest))
        return ", ".join([*protected, *rest])

    def _parse(self, caption: str) -> tuple[list[str], list[str], str]:
        protected: list[str] = []
        rest: list[str] = []
        names: list[str] = []
        for text, found in self._replaced(caption):
            (protected if found else rest).append(text)
            names += [name for name in found if name not in names]
        if self._prune is not None:
            rest = self._prune(rest, names)
        return protected, rest, ", ".join(names)

    def _replaced(self, caption: str) -> list[tuple[str, list[str]]]:
        """Each tag with aliases replaced, and the concepts it mentions, in order."""
        tags = _tags(caption)
        return [self._replaced_in(tag, is_prose=len(tags) == 1 or is_sentence(tag)) for tag in tags]

    def _search(self, tag: str, *, is_prose: bool) -> tuple[str, list[str]]:
        for before, inner, after in [("", tag, ""), *without_emphasis(tag)]:
            whole = self._names.get(plain_words(inner))
            if whole is not None:
                return before + whole + after, [whole]
        tag = _bare(tag)
        found: list[str] = []

        def replace(match: re.Match[str]) -> str:
            # Letters such as the dotless i match the pattern case-insensitively but are not in the table.
            name = self._names.get(plain_words(match.group()))
            if name is None:
                return match.group()
            found.append(name)
            return name

        # One pass for all concepts, so that inserted names are not searched again.
        text = (self._in_prose if is_prose else self._in_tags).sub(replace, _composed(tag))
        return (text if found else tag), found


def _names_by_words(concepts: Sequence[Concept]) -> dict[str, str]:
    """Map names and aliases, normalized by :func:`plain_words`, to concept names; a name wins over an alias."""
    result: dict[str, str] = {}
    for concept in concepts:
        result.setdefault(plain_words(concept.name), concept.name)
    for concept in concepts:
        for alias in concept.aliases:
            result.setdefault(plain_words(alias), concept.name)
    result.pop("", None)
    return result


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Pattern that finds the words in a text, longest first; ``_`` counts as a space in them and as a letter around."""
    found = [_in_text(word) for word in sorted(words, key=len, reverse=True) if word]
    # Without words, a pattern that never matches.
    return re.compile("|".join(found) or r"(?!)", re.IGNORECASE)


def _in_text(word: str) -> str:
    """Pattern for one word: no letter directly before or after it, unless one of the two is unspaced."""
    letter = rf"[^\W{_UNSPACED}]"
    start = "" if _UNSPACED_LETTER.match(word[0]) else f"(?<!{letter})"
    end = "" if _UNSPACED_LETTER.match(word[-1]) else f"(?!{letter})"
    flexible = re.escape(word).replace(r"\ ", r"[\s_]+")
    return f"{start}{flexible}{end}"
