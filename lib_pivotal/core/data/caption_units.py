"""Divides a caption into units, which are shuffled and dropped as a whole: usually one tag each."""

from __future__ import annotations

from typing import NamedTuple

from lib_pivotal.core.data.caption_names import NamedTag, NameFinder
from lib_pivotal.core.data.caption_tags import tags_of, without_emphasis

__all__ = ["Section", "Unit", "UnitParser", "bracket_depth", "remaining"]

Unit = list[NamedTag]
"""Tags that stay together."""


class Section(NamedTuple):
    """The units of a caption.

    Attributes:
        head: units before the keep separator.
        middle: the other ones; all units if there is no separator.
        tail: units after a second separator.
    """

    head: list[Unit]
    middle: list[Unit]
    tail: list[Unit]

    @property
    def units(self) -> list[Unit]:
        """All units, in order."""
        return [*self.head, *self.middle, *self.tail]


class UnitParser:
    """Divides captions into units.

    Args:
        finder: finds the concepts.
        keep_separator: separates head, middle and tail; empty separates nothing.
        group_separator: joins tags to a unit; empty joins nothing.
        has_emphasis: whether brackets weigh tags, so that several tags in the same brackets are a unit.
    """

    def __init__(self, finder: NameFinder, keep_separator: str, group_separator: str, *, has_emphasis: bool) -> None:
        self._finder = finder
        self._keep = keep_separator.strip()
        self._group = group_separator.strip()
        self._has_emphasis = has_emphasis

    def separates(self, text: str) -> bool:
        """Whether the text contains the keep separator."""
        return bool(self._keep) and self._keep in text

    def parse(self, text: str, *, head_is_over: bool = False) -> Section:
        """Divide a text into units, with aliases replaced.

        Args:
            text: the text.
            head_is_over: whether the first separator is in front of this text.
        """
        parts = text.split(self._keep) if self._keep else [text]
        if len(parts) == 1 and (not self._group or self._group not in text):
            return Section([], self._together([[tag] for tag in self._finder.replaced(tags_of(text))]), [])
        if len(parts) == 1 or head_is_over:
            parts = ["", *parts]
        sides = (parts[0], parts[1], ",".join(parts[2:]))
        grouped = [[self._grouped(part) for part in tags_of(side)] for side in sides]
        tags = [tag for side in grouped for group in side for tag in group]
        named = iter(self._finder.replaced(tags))
        head, middle, tail = (self._together([[next(named) for _ in group] for group in side]) for side in grouped)
        return Section(head, middle, tail)

    def _grouped(self, part: str) -> list[str]:
        if not self._group or self._group not in part:
            return [part]
        return [tag.strip() for tag in part.split(self._group) if tag.strip()]

    def _together(self, units: list[Unit]) -> list[Unit]:
        """Join units within the same brackets, and escape brackets without their counterpart."""
        units = [unit for unit in units if unit]
        if not self._has_emphasis:
            return units
        result: list[Unit] = []
        open_units: list[Unit] = []
        depth = 0
        for unit in units:
            depth = max(0, depth + sum(bracket_depth(tag.text) for tag in unit))
            open_units.append(unit)
            if depth == 0:
                result.append([tag for item in open_units for tag in item])
                open_units = []
        return result + [[_escaped(tag) for tag in unit] for unit in open_units]


def bracket_depth(text: str) -> int:
    """Number of brackets that are opened and not closed in the text; negative if it closes more."""
    depth, is_escaped = 0, False
    for letter in text:
        if not is_escaped:
            depth += (letter in "([") - (letter in ")]")
        is_escaped = letter == "\\" and not is_escaped
    return depth


def _escaped(tag: NamedTag) -> NamedTag:
    if bracket_depth(tag.text) == 0:
        return tag
    text = tag.text
    for bracket in "()[]":
        text = text.replace("\\" + bracket, bracket).replace(bracket, "\\" + bracket)
    return tag._replace(text=text)


def remaining(unit: Unit, is_removed: list[bool]) -> Unit:
    """A unit without some of its tags; brackets around several tags pass on to the tags that stay.

    Args:
        unit: its tags.
        is_removed: whether to remove each tag.
    """
    if not any(is_removed):
        return unit
    kept: Unit = []
    opening = ""
    for tag, removed in zip(unit, is_removed, strict=True):
        if not removed:
            kept.append(tag._replace(text=opening + tag.text))
            opening = ""
        elif bracket_depth(tag.text):
            before, _, after = list(without_emphasis(tag.text))[-1]
            opening += before
            if kept:
                kept[-1] = kept[-1]._replace(text=kept[-1].text + after)
    return kept
