"""Finds concepts in captions, by name or alias, and replaces aliases with names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.data.caption_tags import composed, plain_words, unescaped, without_emphasis

__all__ = ["NameFinder", "NamedTag", "is_sentence"]

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3"  # Hangul, where particles are attached to words
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
"""Letters of scripts that write words without spaces or with attached particles, as a character set for ``re``."""
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")

_SENTENCE_FROM = 6
"""A part between commas with this many words is a sentence, not a tag; two unspaced letters make a word."""

_MAX_CACHED = 50_000
"""Maximum number of different tags that are remembered; most tags occur in many captions."""


class NamedTag(NamedTuple):
    """A tag with its aliases replaced.

    Attributes:
        text: the tag.
        names: the concepts that it mentions, in order.
        written: the tag as it is in the caption if an alias was replaced in it; otherwise empty.
    """

    text: str
    names: tuple[str, ...]
    written: str = ""


class NameFinder:
    """Finds concepts in tags and sentences.

    An alias stands for its concept only as a whole tag, because ``girl`` must not match in ``magical girl``. In prose,
    which has no tags, it may stand between other words, and an alias in angle brackets may do so everywhere.

    Args:
        concepts: the concepts.
        keeps_escapes: whether backslashes before brackets stay, because the brackets are parsed later.
    """

    def __init__(self, concepts: Sequence[Concept], *, keeps_escapes: bool = False) -> None:
        self._keeps_escapes = keeps_escapes
        self._names = _names_by_words(concepts)
        # The text encoder finds a name wherever it is written, as a tag or not.
        self.names = _pattern((plain_words(concept.name) for concept in concepts), has_escapes=keeps_escapes)
        """Finds names, but not aliases, in a text."""
        # Nobody writes angle brackets by chance.
        marked = (alias for alias in self._names if alias[0] == "<" and alias[-1] == ">")
        words = (plain_words(concept.name) for concept in concepts)
        self._in_tags = _pattern((*words, *marked), has_escapes=keeps_escapes)
        self._in_prose = _pattern(self._names, has_escapes=keeps_escapes)
        self._found: dict[tuple[str, bool], NamedTag] = {}

    def name_of(self, tag: str) -> str | None:
        """The concept that a tag is a name or an alias of, or None."""
        return self._names.get(plain_words(tag))

    def replaced(self, tags: Sequence[str]) -> list[NamedTag]:
        """The tags of a caption with aliases replaced; a caption of a single tag is prose.

        Args:
            tags: all tags of the caption.
        """
        is_only = len(tags) == 1
        return [self._found.get((tag, is_only)) or self._find(tag, is_only=is_only) for tag in tags]

    def _find(self, tag: str, *, is_only: bool) -> NamedTag:
        if len(self._found) >= _MAX_CACHED:
            self._found.clear()
        found = self._found[tag, is_only] = self._replaced_in(tag, is_prose=is_only or is_sentence(tag))
        return found

    def _replaced_in(self, tag: str, *, is_prose: bool) -> NamedTag:
        for before, inner, after in [("", tag, ""), *without_emphasis(tag)]:
            whole = self._names.get(plain_words(inner))
            if whole is not None:
                return _named(tag, before + whole + after, (whole,))
        if not self._keeps_escapes:
            tag = unescaped(tag)
        found: list[str] = []

        def replace(match: re.Match[str]) -> str:
            # Letters such as the dotless i match the pattern case-insensitively but are not in the table.
            name = self._names.get(plain_words(match.group()))
            if name is None:
                return match.group()
            found.append(name)
            return name

        # One pass for all concepts, so that inserted names are not searched again.
        text = (self._in_prose if is_prose else self._in_tags).sub(replace, composed(tag))
        return _named(tag, text, tuple(found)) if found else NamedTag(tag, ())


def _named(tag: str, text: str, names: tuple[str, ...]) -> NamedTag:
    is_alias = plain_words(tag) != plain_words(text)
    return NamedTag(text, names, tag if is_alias else "")


def is_sentence(tag: str) -> bool:
    """Whether a part between commas has so many words that it is a sentence and not a tag."""
    return len(tag.split()) + len(_UNSPACED_LETTER.findall(tag)) // 2 >= _SENTENCE_FROM


def _names_by_words(concepts: Sequence[Concept]) -> dict[str, str]:
    """Map names and aliases, normalized by ``plain_words``, to concept names; a name wins over an alias."""
    result: dict[str, str] = {}
    for concept in concepts:
        result.setdefault(plain_words(concept.name), concept.name)
    for concept in concepts:
        for alias in concept.aliases:
            result.setdefault(plain_words(alias), concept.name)
    result.pop("", None)
    return result


def _pattern(words: Iterable[str], *, has_escapes: bool) -> re.Pattern[str]:
    """Pattern that finds the words in a text, longest first; ``_`` counts as a space in them and as a letter around."""
    longest_first = sorted(filter(None, words), key=len, reverse=True)
    # Words between the same limits share them: compiling a limit takes many times as long as compiling a word.
    parts = [
        f"{start}(?:{'|'.join(_in_text(word, has_escapes=has_escapes) for word in group)}){end}"
        for (start, end), group in itertools.groupby(longest_first, _limits)
    ]
    # Without words, a pattern that never matches.
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def _limits(word: str) -> tuple[str, str]:
    """Patterns around a word: no letter directly before or after it, unless one of the two is unspaced or a bracket."""
    letter = rf"[^\W{_UNSPACED}]"
    start = "" if word[0] == "<" or _UNSPACED_LETTER.match(word[0]) else f"(?<!{letter})"
    end = "" if word[-1] == ">" or _UNSPACED_LETTER.match(word[-1]) else f"(?!{letter})"
    return start, end


def _in_text(word: str, *, has_escapes: bool) -> str:
    """Pattern for the spellings of one word."""
    flexible = re.escape(word).replace(r"\ ", r"[\s_]+")
    if has_escapes:
        for bracket in "()[]":
            flexible = flexible.replace(f"\\{bracket}", rf"\\?\{bracket}")
    return flexible
