"""Changes to the text of captions, tag by tag: lines, separators, groups and choices stay as they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.data.caption_layout import CaptionLine, Separators, Unit, caption_lines
from lib_pivotal.core.data.caption_names import NameFinder
from lib_pivotal.core.data.caption_tags import TagRule, inner_tag, plain_words, tags_of, without_emphasis
from lib_pivotal.core.data.caption_text import clean_caption, prompt_end
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = [
    "ACTIONS",
    "ADD_END",
    "ADD_FRONT",
    "CONCEPTS_FIRST",
    "DEDUPE",
    "REMOVE",
    "REPLACE",
    "CaptionChange",
    "CaptionChanger",
    "plain_tags",
    "with_caption",
]

ADD_FRONT = "add_front"
ADD_END = "add_end"
REMOVE = "remove"
REPLACE = "replace"
DEDUPE = "dedupe"
CONCEPTS_FIRST = "concepts_first"
ACTIONS = (ADD_FRONT, ADD_END, REMOVE, REPLACE, DEDUPE, CONCEPTS_FIRST)
"""What can be done to captions."""

_WITHOUT_TAGS = (DEDUPE, CONCEPTS_FIRST)


@dataclass(frozen=True)
class CaptionChange:
    """What to do to captions.

    Attributes:
        action: one of :data:`ACTIONS`.
        tags: comma-separated tags to add, remove or replace; with ``is_pattern`` one regular expression.
        replacement: what replaces them.
        is_pattern: whether ``tags`` is a regular expression, which is searched in each tag, ignoring case.
    """

    action: str
    tags: str = ""
    replacement: str = ""
    is_pattern: bool = False


class CaptionChanger:
    """Changes captions.

    Args:
        config: its concepts and separators are used.
        change: what to do.

    Raises:
        ConfigError: it is unknown, names no tag, or its regular expression is invalid.
    """

    def __init__(self, config: TrainConfig, change: CaptionChange) -> None:
        self._change = change
        self._separators = Separators(config)
        self._finder = NameFinder([concept for concept in config.concepts if concept.name.strip()])
        self._tags = tags_of(" ".join(change.tags.split()))
        _check(change, self._tags)
        is_pattern = change.is_pattern and change.action in (REMOVE, REPLACE)
        self._pattern = _compiled(change) if is_pattern else None
        self._rule = TagRule(self._tags)
        self._plain = {plain_words(tag) for tag in self._tags}

    def changed(self, caption: str) -> str:
        """The caption after the change; the same text if there is nothing to do.

        Args:
            caption: as it is in its file.
        """
        end = prompt_end(caption)
        lines = caption_lines(caption[:end].rstrip(), self._separators)
        rest = caption[len(caption[:end].rstrip()) :]
        for line in lines:
            # A caption without tags may get some; a blank line between others does not.
            if not line.is_blank or all(other.is_blank for other in lines):
                self._change_line(line)
        if self._change.action in (REMOVE, REPLACE, DEDUPE):
            lines = _without_emptied(lines, caption_lines(caption[:end].rstrip(), self._separators))
        return _joined("".join(line.text + line.end for line in lines), rest)

    def _change_line(self, line: CaptionLine) -> None:
        action = self._change.action
        if action in (ADD_FRONT, ADD_END):
            there = {_bare(piece.tag) for piece in line.pieces}
            missing = [tag for tag in dict.fromkeys(self._tags) if plain_words(tag) not in there]
            if missing:
                (line.add_front if action == ADD_FRONT else line.add_end)(missing)
        elif action == REMOVE:
            line.keep_only(lambda tag: not self._is_meant(tag))
        elif action == REPLACE:
            self._replace(line)
        elif action == DEDUPE:
            _dedupe(line)
        else:
            line.sort(self._mentions)

    def _is_meant(self, tag: str) -> bool:
        return self._rule.matches(tag) if self._pattern is None else self._pattern.search(tag) is not None

    def _replace(self, line: CaptionLine) -> None:
        new = " ".join(self._change.replacement.split())
        for piece in line.pieces:
            if piece.tag:
                piece.put(self._replaced(piece.tag, new) or _GONE)
        line.keep_only(lambda tag: tag != _GONE)

    def _replaced(self, tag: str, new: str) -> str:
        if self._pattern is not None:
            return self._pattern.sub(new, tag).strip()
        for before, inner, after in [("", tag, ""), *without_emphasis(tag)]:
            if _plain(inner) in self._plain:
                return before + new + after if new else ""
        return tag

    def _mentions(self, unit: Unit) -> bool:
        return any(tag.names for tag in self._finder.replaced([piece.tag for piece in unit if piece.tag]))


_GONE = "\0"
"""Stands for a tag that was replaced with nothing; captions contain no such character."""


def plain_tags(caption: str, config: TrainConfig) -> tuple[str, ...]:
    """The different tags of a caption, normalized for comparison and without emphasis, in order.

    Args:
        caption: of an image.
        config: its separators are used.
    """
    lines = caption_lines(caption, Separators(config))
    tags = (_bare(piece.tag) for line in lines for piece in line.pieces)
    return tuple(dict.fromkeys(tag for tag in tags if tag))


def with_caption(old: str, new: str) -> str:
    """A file's text with another caption; spaces around it, line breaks and what the webui writes after it stay.

    Args:
        old: text of the file.
        new: the caption.
    """
    end = prompt_end(old)
    body = old[:end]
    lead = body[: len(body) - len(body.lstrip())] if body.strip() else ""
    rest = old[len(body.rstrip()) :]
    lines = new.strip().splitlines()
    return _joined(lead + ("\r\n" if "\r\n" in old else "\n").join(lines), rest)


def _joined(caption: str, rest: str) -> str:
    """A caption and what the webui writes after it, which must not be taken for a part of it."""
    is_apart = not caption or not rest or rest[0].isspace()
    return caption + ("" if is_apart else "\n") + rest


def _plain(tag: str) -> str:
    return plain_words(clean_caption(tag, fix_punctuation=False).text)


def _bare(tag: str) -> str:
    """A tag for comparison, without emphasis; a choice such as ``{red|blue}`` keeps its braces."""
    return _plain(tag if "{" in tag and "|" in tag else inner_tag(tag))


def _dedupe(line: CaptionLine) -> None:
    seen: set[str] = set()

    def is_new(tag: str) -> bool:
        plain = _bare(tag)
        # Each choice is made for itself, so the same choice twice may give two tags.
        if "{" in tag:
            return True
        is_first = plain not in seen
        seen.add(plain)
        return is_first

    line.keep_only(is_new)


def _without_emptied(lines: list[CaptionLine], before: Sequence[CaptionLine]) -> list[CaptionLine]:
    """The lines without those that have lost all their tags."""
    left = [line for line, old in zip(lines, before, strict=True) if not line.is_blank or old.is_blank]
    if left and left[-1] is not lines[-1]:
        left[-1].end = lines[-1].end
    return left


def _check(change: CaptionChange, tags: Sequence[str]) -> None:
    problem = None
    if change.action not in ACTIONS:
        problem = Problem("change", "error", f"{shown(change.action)} is unknown.", f"Use {', '.join(ACTIONS)}.")
    elif change.action not in _WITHOUT_TAGS and not (change.tags.strip() if change.is_pattern else tags):
        problem = Problem("tags", "error", "No tag is given.", "Enter one or more tags.")
    if problem:
        raise ConfigError([problem])


def _compiled(change: CaptionChange) -> re.Pattern[str]:
    try:
        pattern = re.compile(change.tags.strip(), re.IGNORECASE)
        # References to groups are checked even if nothing matches.
        pattern.sub(change.replacement, "")
    except (re.error, IndexError, OverflowError, RecursionError) as error:
        text = f"{shown(change.tags)} is not a valid regular expression, or its replacement is not ({error})."
        raise ConfigError([Problem("tags", "error", text, "Correct it, or turn regular expressions off.")]) from error
    return pattern
