"""Splits captions into tags and compares tags."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

__all__ = [
    "TagRule",
    "bad_patterns",
    "composed",
    "inner_tag",
    "is_emoticon",
    "plain_words",
    "tags_of",
    "unescaped",
    "with_spaces",
    "without_emphasis",
]

_ESCAPED = re.compile(r"\\([()\[\]])")

_WEIGHT = re.compile(r"\s*:\s*-?\d*\.?\d+\s*$")
_MAX_WEIGHT_LENGTH = 12

_MAX_LAYERS = 8
"""Maximum number of emphasis layers around a tag that are searched."""

_EMOTICON = re.compile(r"\W*\w?[\W_]+\w?\W*")
_MAX_EMOTICON = 12

_PATTERN = re.compile(r"/(.+)/", re.DOTALL)


def plain_words(tag: str) -> str:
    """Normalize a tag for comparison: NFC, lower case, ``_`` as space, unescaped brackets, single spaces."""
    return " ".join(unescaped(composed(tag)).lower().replace("_", " ").split())


def tags_of(caption: str) -> list[str]:
    """Comma-separated parts of a caption, without empty ones."""
    return [tag for part in caption.split(",") if (tag := part.strip())]


def unescaped(tag: str) -> str:
    """A tag as image generation sees it, without backslashes before brackets.

    Host: modules/prompt_parser.py, ``parse_prompt_attention``, A1111 1.6.1-1.10.1: an escaped bracket of a prompt
        reaches the text encoder without its backslash.
    """
    return _ESCAPED.sub(r"\1", tag)


def composed(text: str) -> str:
    """The text with accented letters composed (NFC), as CLIP's tokenizers do it."""
    return unicodedata.normalize("NFC", text)


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


def inner_tag(tag: str) -> str:
    """A tag without the emphasis around it; brackets that belong to it, as in ``saber (fate)``, stay."""
    inner = tag
    for before, text, after in without_emphasis(tag):
        closing = sum(letter in ")]}" for letter in after)
        if len(before) == closing:
            inner = text
    return inner


def is_emoticon(tag: str) -> bool:
    """Whether a tag is an emoticon such as ``o_o`` or ``^_^``, in which ``_`` is not a space."""
    return len(tag) <= _MAX_EMOTICON and " " not in tag and _EMOTICON.fullmatch(tag) is not None


def with_spaces(tag: str, names: re.Pattern[str]) -> str:
    """A tag with spaces for underscores, except in emoticons and in names.

    Args:
        tag: the tag.
        names: finds the names in it.
    """
    if "_" not in tag or is_emoticon(tag):
        return tag
    pieces: list[str] = []
    end = 0
    for match in names.finditer(tag):
        pieces += [tag[end : match.start()].replace("_", " "), match.group()]
        end = match.end()
    return " ".join("".join([*pieces, tag[end:].replace("_", " ")]).split())


class TagRule:
    """Tags that a setting lists: each entry is a tag, or a regular expression between slashes.

    Args:
        entries: such as ``red hat`` or ``/^(red|blue) hat$/``; see :func:`bad_patterns` for invalid ones.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._words = set()
        self._patterns = []
        for entry in entries:
            match = _PATTERN.fullmatch(entry.strip())
            if match is None:
                self._words.add(plain_words(entry))
            elif (pattern := _compiled(match.group(1))) is not None:
                self._patterns.append(pattern)
        self._words.discard("")

    def __bool__(self) -> bool:
        """Whether any tag can match."""
        return bool(self._words or self._patterns)

    def matches(self, tag: str) -> bool:
        """Whether the tag is listed, with or without emphasis around it.

        Patterns are searched in the tag as :func:`plain_words` returns it, ignoring case.
        """
        for text in [tag, *(inner for _, inner, _ in without_emphasis(tag))]:
            plain = plain_words(text)
            if plain in self._words or any(pattern.search(plain) for pattern in self._patterns):
                return True
        return False


def bad_patterns(entries: Sequence[str]) -> list[tuple[str, str]]:
    """The entries of a :class:`TagRule` that are not valid regular expressions, each with the reason."""
    found = []
    for entry in entries:
        match = _PATTERN.fullmatch(entry.strip())
        if match is not None:
            try:
                re.compile(match.group(1))
            except (re.error, OverflowError, RecursionError) as error:
                found.append((entry, str(error)))
    return found


def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError):
        return None
