"""Random choices in a caption: each line is an alternative, and ``{red|blue}`` stands for one of its options."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Choices", "Choose", "lines_of", "unused_braces"]

Choose = Callable[[int], int]
"""Chooses one of n options (n ≥ 2): returns an index."""

_MAX_CHOICES = 32
"""Maximum number of choices in a line; further ones stay as they are written."""
_MAX_DEPTH = 32
"""Braces nested deeper than this are plain text."""

_SIGN = re.compile(r"\|{2,}|[{}|]")


def lines_of(caption: str) -> list[str]:
    """The lines of a caption that are not blank; at least one, even for an empty caption."""
    return [line for part in caption.splitlines() if (line := part.strip())] or [""]


def unused_braces(text: str) -> str | None:
    """The first braces in a text that are plain text but not doubled, such as ``{abc}``; None if there are none."""
    found: list[str] = []
    Choices(text, unused=found)
    return found[0] if found else None


@dataclass
class _Group:
    """A pair of braces, or the whole text: its options, each a sequence of texts and groups."""

    options: list[list[str | _Group]] = field(default_factory=lambda: [[]])

    def add(self, part: str | _Group) -> None:
        if part:
            self.options[-1].append(part)

    def is_only_braces(self) -> bool:
        """Whether it is a single pair of braces without options, around one other pair: ``{{…}}``."""
        return len(self.options) == 1 and len(self.options[0]) == 1 and isinstance(self.options[0][0], _Group)


class Choices:
    """A line with its choices, parsed once.

    ``{a|b}`` is a choice, also inside another one; ``{{a}}`` stands for ``{a}``; all other braces are plain text.

    Args:
        line: the text.
        is_plain: whether all braces are plain text.
        unused: receives each pair of braces that is plain text although it is not doubled.
    """

    def __init__(self, line: str, *, is_plain: bool = False, unused: list[str] | None = None) -> None:
        self._unused = unused if unused is not None else []
        self._left = _MAX_CHOICES
        has_braces = "{" in line and not is_plain
        self._parts: list[str | _Group] = self._settled(_tree(line)) if has_braces else [line]
        self.count = _MAX_CHOICES - self._left
        """Number of choices."""
        self.variants = _variants(self._parts) if self.count else 1
        """Number of texts that together contain each option at least once, see :meth:`variant`."""

    def text(self, choose: Choose) -> str:
        """The line with an option for each choice.

        Args:
            choose: called for each choice that is reached, from left to right.
        """
        if self.count == 0:
            return self._parts[0] if self._parts else ""  # type: ignore[return-value]
        return _picked(self._parts, choose)

    def variant(self, number: int) -> str:
        """One of the texts that together contain each option at least once.

        Args:
            number: 0 …; repeats from ``variants`` on.
        """
        return _variant(self._parts, number)

    def _settled(self, root: _Group) -> list[str | _Group]:
        """The parts of the text, in which only choices are groups and neighboring texts are joined."""
        return _joined(self._plain(root.options[0]))

    def _plain(self, parts: list[str | _Group]) -> list[str | _Group]:
        result: list[str | _Group] = []
        for part in parts:
            result += [part] if isinstance(part, str) else self._settled_group(part)
        return result

    def _settled_group(self, group: _Group) -> list[str | _Group]:
        if len(group.options) > 1 and self._left > 0:
            self._left -= 1
            return [_Group([_joined(self._plain(option)) for option in group.options])]
        if group.is_only_braces():
            (inner,) = group.options[0]
            return [_written(inner)]
        self._unused.append(_written(group))
        separated: list[str | _Group] = ["{"]
        for number, option in enumerate(group.options):
            separated += ["|"] * (number > 0) + self._plain(option)
        return [*separated, "}"]


def _tree(line: str) -> _Group:
    """The pairs of braces in a line; a brace without its counterpart is text."""
    stack = [_Group()]
    end = 0
    for match in _SIGN.finditer(line):
        sign = match.group()
        stack[-1].add(line[end : match.start()])
        end = match.end()
        if sign == "{" and len(stack) <= _MAX_DEPTH:
            stack.append(_Group())
        elif sign == "}" and len(stack) > 1:
            group = stack.pop()
            stack[-1].add(group)
        elif sign == "|" and len(stack) > 1:
            stack[-1].options.append([])
        else:
            stack[-1].add(sign)
    stack[-1].add(line[end:])
    while len(stack) > 1:
        group = stack.pop()
        stack[-1].add("{")
        for number, option in enumerate(group.options):
            stack[-1].add("|" if number else "")
            for part in option:
                stack[-1].add(part)
    return stack[0]


def _written(part: str | _Group) -> str:
    """The part as it was written."""
    if isinstance(part, str):
        return part
    return "{" + "|".join("".join(_written(item) for item in option) for option in part.options) + "}"


def _joined(parts: list[str | _Group]) -> list[str | _Group]:
    """The same parts with neighboring texts joined."""
    result: list[str | _Group] = []
    for is_text, neighbors in itertools.groupby(parts, lambda part: isinstance(part, str)):
        if is_text:
            result.append("".join(str(part) for part in neighbors))
        else:
            result += neighbors
    return result


def _picked(parts: list[str | _Group], choose: Choose) -> str:
    return "".join(
        part if isinstance(part, str) else _picked(part.options[choose(len(part.options))], choose) for part in parts
    )


def _variants(parts: list[str | _Group]) -> int:
    return max([1, *(_group_variants(part) for part in parts if isinstance(part, _Group))])


def _group_variants(group: _Group) -> int:
    return sum(_variants(option) for option in group.options)


def _variant(parts: list[str | _Group], number: int) -> str:
    return "".join(part if isinstance(part, str) else _group_variant(part, number) for part in parts)


def _group_variant(group: _Group, number: int) -> str:
    number %= _group_variants(group)
    for option in group.options:
        if number < _variants(option):
            return _variant(option, number)
        number -= _variants(option)
    raise AssertionError("the remainder is below the sum of all")
