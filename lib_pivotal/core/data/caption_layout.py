"""Divides a caption for editing so that everything that is not edited stays exactly as it is written.

Training divides captions with :mod:`lib_pivotal.core.data.caption_units`, which forgets spaces and separators. Here the
same units keep them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.caption_names import NamedTag
from lib_pivotal.core.data.caption_units import bracket_depth, remaining

__all__ = ["CaptionLine", "Piece", "Separators", "Unit", "caption_lines"]

_LINE = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_BRACE = re.compile(r"\|{2,}|[{}|]")
_COMMAS = ("\uff0c", "\u3001", "\uff64")
"""Commas that count as such if punctuation is fixed."""


@dataclass
class Piece:
    """A tag as it is written.

    Attributes:
        mark: what separates it from the one before it.
        text: the tag with the spaces around it.
    """

    mark: str
    text: str

    @property
    def tag(self) -> str:
        """The tag itself."""
        return self.text.strip()

    def put(self, tag: str) -> None:
        """Replace the tag; the spaces around it stay."""
        lead, trail = _spaces(self.text)
        self.text = f"{lead}{tag}{trail}"


Unit = list[Piece]
"""Tags that stay together, such as ``sky;;;cloud``."""


class Separators:
    """What separates the tags of captions.

    Args:
        config: its settings of captions are used.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.keep = config.keep_separator.strip()
        self.group = config.group_separator.strip()
        self.has_choices = config.random_choices
        self.has_emphasis = config.emphasis
        commas = (",", *_COMMAS) if config.fix_punctuation else (",",)
        marks = [mark for mark in (self.keep, self.group, *commas) if mark]
        self.marks = re.compile("|".join(map(re.escape, marks)))


@dataclass
class CaptionLine:
    """One line of a caption, which is an alternative to the others.

    Attributes:
        sections: the parts between keep separators, each with its units; at least one.
        keep: the keep separator.
        end: the line break; empty at the end of the caption.
        has_emphasis: whether brackets weigh the tags in them.
    """

    sections: list[list[Unit]]
    keep: str = ""
    end: str = ""
    has_emphasis: bool = False
    _gaps: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Remember the spaces around each section."""
        self._gaps = [_spaces(_joined(units)) for units in self.sections]

    @property
    def text(self) -> str:
        """The line as it is written, without its line break."""
        return self.keep.join(_joined(units) for units in self.sections)

    @property
    def pieces(self) -> list[Piece]:
        """All tags, in order."""
        return [piece for units in self.sections for unit in units for piece in unit]

    @property
    def is_blank(self) -> bool:
        """Whether it has no tags."""
        return not any(piece.tag for piece in self.pieces)

    def keep_only(self, is_kept: Callable[[str], bool]) -> None:
        """Remove tags; the separators and spaces between the others stay.

        Args:
            is_kept: called with each tag.
        """
        is_shorter = False
        for index, units in enumerate(self.sections):
            flags = [[not piece.tag or is_kept(piece.tag) for piece in unit] for unit in units]
            if all(all(kept) for kept in flags):
                continue
            left = [_without(unit, kept, self.has_emphasis) for unit, kept in zip(units, flags, strict=True)]
            self.sections[index] = [unit for unit in left if unit]
            self._put_gaps(index)
            is_shorter = True
        # After the second separator nothing may be left; the first one says what the head is.
        while (
            is_shorter and len(self.sections) > 2 and not any(piece.tag for unit in self.sections[-1] for piece in unit)
        ):
            self.sections.pop()
            self._trim_end()

    def add_front(self, tags: list[str]) -> None:
        """Put tags in front of everything else."""
        lead = self._gaps[0][0]
        units = [[Piece(",", f" {tag}")] for tag in tags]
        units[0][0] = Piece("", lead + tags[0])
        first = self.sections[0]
        if first and any(piece.tag for unit in first for piece in unit):
            first[0][0].mark, first[0][0].text = ",", f" {first[0][0].text.lstrip()}"
            self.sections[0] = [*units, *first]
        else:
            units[-1][-1].text += " " if len(self.sections) > 1 else ""
            self.sections[0] = units

    def add_end(self, tags: list[str]) -> None:
        """Put tags after everything else."""
        last = [unit for unit in self.sections[-1] if any(piece.tag for piece in unit)]
        lead, trail = self._gaps[-1]
        if last:
            last[-1][-1].text = last[-1][-1].text.rstrip()
        added = [[Piece(",", f" {tag}")] for tag in tags]
        if not last:
            added[0][0].text = lead + tags[0]
            trail = ""
        added[-1][-1].text += trail
        self.sections[-1] = [*last, *added]

    def sort(self, comes_first: Callable[[Unit], bool]) -> None:
        """Move units to the front of their section; separators and spaces stay in their places.

        Args:
            comes_first: whether a unit is moved.
        """
        for index, units in enumerate(self.sections):
            ordered = [unit for unit in units if comes_first(unit)]
            ordered += [unit for unit in units if not comes_first(unit)]
            places = [(unit[0].mark, _spaces(unit[0].text)[0], _spaces(unit[-1].text)[1]) for unit in units]
            if all(new is old for new, old in zip(ordered, units, strict=True)):
                continue
            for unit, (mark, lead, trail) in zip(ordered, places, strict=True):
                unit[0].mark, unit[0].text = mark, lead + unit[0].text.lstrip()
                unit[-1].text = unit[-1].text.rstrip() + trail
            self.sections[index] = ordered

    def _put_gaps(self, index: int) -> None:
        """Give a section the spaces around it that it had."""
        units = self.sections[index]
        lead, trail = self._gaps[index]
        if units:
            units[0][0].text = lead + units[0][0].text.lstrip()
            units[-1][-1].text = units[-1][-1].text.rstrip() + trail

    def _trim_end(self) -> None:
        units = self.sections[-1]
        if units and len(self.sections) < len(self._gaps):
            units[-1][-1].text = units[-1][-1].text.rstrip() + self._gaps[-1][1]


def caption_lines(text: str, separators: Separators) -> list[CaptionLine]:
    """Divide a caption; joining ``line.text + line.end`` of all lines gives it back.

    Args:
        text: the caption as it is written.
        separators: of the settings.
    """
    if not separators.has_choices:
        return [_line(text, "", separators)]
    lines = []
    start = 0
    for match in _LINE.finditer(text):
        lines.append(_line(text[start : match.start()], match.group(), separators))
        start = match.end()
    return [*lines, _line(text[start:], "", separators)]


def _line(text: str, end: str, separators: Separators) -> CaptionLine:
    sections: list[list[Piece]] = [[]]
    start, mark = 0, ""
    hidden = _choices(text) if separators.has_choices else []
    for match in separators.marks.finditer(text):
        if any(first <= match.start() < last for first, last in hidden):
            continue
        sections[-1].append(Piece(mark, text[start : match.start()]))
        start, mark = match.end(), match.group()
        if mark == separators.keep:
            sections.append([])
            mark = ""
    sections[-1].append(Piece(mark, text[start:]))
    return CaptionLine(
        [_units(pieces, separators) for pieces in sections], separators.keep, end, separators.has_emphasis
    )


def _choices(text: str) -> list[tuple[int, int]]:
    """Where the choices such as ``{red|blue}`` begin and end; separators in them belong to them."""
    found = []
    stack: list[list[int]] = []
    for match in _BRACE.finditer(text):
        sign = match.group()
        if sign == "{":
            stack.append([match.start(), 0])
        elif sign == "|" and stack:
            stack[-1][1] = 1
        elif sign == "}" and stack:
            start, has_options = stack.pop()
            if has_options:
                found.append((start, match.end()))
    return found


def _units(pieces: list[Piece], separators: Separators) -> list[Unit]:
    units: list[Unit] = []
    depth = 0
    for piece in pieces:
        if units and (depth > 0 or (separators.group and piece.mark == separators.group)):
            units[-1].append(piece)
        else:
            units.append([piece])
        if separators.has_emphasis:
            depth = max(0, depth + bracket_depth(piece.text))
    return units


def _without(unit: Unit, kept: list[bool], has_emphasis: bool) -> Unit:
    """A unit without some of its tags."""
    if all(kept):
        return unit
    result = [Piece(piece.mark, piece.text) for piece, flag in zip(unit, kept, strict=True) if flag]
    if has_emphasis:
        # Brackets around several tags pass on to the tags that stay.
        left = remaining([NamedTag(piece.tag, ()) for piece in unit], [not flag for flag in kept])
        for piece, tag in zip(result, left, strict=True):
            piece.put(tag.text)
    if result:
        result[0].mark = unit[0].mark
        result[0].text = _spaces(unit[0].text)[0] + result[0].text.lstrip()
    return result


def _joined(units: list[Unit]) -> str:
    pieces = [piece for unit in units for piece in unit]
    return "".join((piece.mark if index else "") + piece.text for index, piece in enumerate(pieces))


def _spaces(text: str) -> tuple[str, str]:
    """The spaces before and after a text; those of a blank text come before it."""
    start = len(text) - len(text.lstrip())
    return text[:start], text[len(text.rstrip()) :] if start < len(text) else ""
