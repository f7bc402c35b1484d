r"""The further folders of a data set as text: one folder per line, followed by its settings.

    D:\zog | repeats=2 | always=zog_v1, mib
    /data/other | kind=regularization | caption_prefix="a, b | c"

A value in quotes may contain bars, line breaks and, doubled, quotes.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lib_pivotal.core.config.schema import subset_field_info
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.errors import Problem

__all__ = ["SubsetLines", "read_subset_lines", "show_subset_lines"]

_CELL = re.compile(r'[ \t\r]*(?:"((?:[^"]|"")*)"[ \t\r]*(?=[|\n]|\Z)|([^|\n]*))')
_NAME = re.compile(r"[ \t\r]*(\w+)[ \t]*=")
_NEEDS_QUOTES = re.compile(r'[|\n\r]|^[\s"]|\s$')

_YES_OR_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


@dataclass(frozen=True)
class SubsetLines:
    """What the text says.

    Attributes:
        subsets: the folders; where a value cannot be read, it has its default.
        lines: number of the line of each of them, from 1.
        problems: errors about the field ``subsets`` that name the line.
    """

    subsets: tuple[Subset, ...]
    lines: tuple[int, ...]
    problems: list[Problem]


def show_subset_lines(subsets: Sequence[Subset]) -> str:
    """The text that :func:`read_subset_lines` reads as these folders; settings with their default are left out."""
    return "\n".join(_show(subset) for subset in subsets)


def _show(subset: Subset) -> str:
    cells = [_quoted(subset.folder)]
    for item in fields(Subset)[1:]:
        value = getattr(subset, item.name)
        if value != item.default:
            cells.append(f"{item.name}={_shown_value(value)}")
    return " | ".join(cells)


def _shown_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        # repr gives the shortest text that reads back as the same number.
        return repr(value).removesuffix(".0")
    return _quoted(", ".join(value) if isinstance(value, tuple) else str(value))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def read_subset_lines(text: str) -> SubsetLines:
    """Read folders and their settings, one folder per line; empty lines are skipped.

    Args:
        text: as a user typed it.
    """
    subsets, lines, problems = list[Subset](), list[int](), list[Problem]()
    info = subset_field_info()
    position, line = 0, 1
    while position < len(text):
        cells, end, obstacle = _cells(text, position)
        found = [obstacle] if obstacle else []
        if obstacle or cells != [("", "")]:
            values = _values(cells, info, found)
            subsets.append(Subset(**values))
            lines.append(line)
        problems += [Problem("subsets", "error", f"Line {line}: {what}", hint) for what, hint in found[:1]]
        line += text.count("\n", position, end)
        position = end
    return SubsetLines(tuple(subsets), tuple(lines), problems)


def _cells(text: str, position: int) -> tuple[list[tuple[str, str]], int, tuple[str, str] | None]:
    """Names and values of a line, where the next line begins, and what is wrong with it; a folder has no name."""
    cells: list[tuple[str, str]] = []
    obstacle = None
    while True:
        name = _NAME.match(text, position) if cells else None
        match = _CELL.match(text, name.end() if name else position)
        assert match is not None, "the pattern matches everything"
        quoted, plain = match.groups()
        plain = (plain or "").strip()
        if quoted is None and plain.startswith('"'):
            obstacle = ("A quote at the beginning of a value needs one at its end.", 'Double quotes inside it: "".')
        cells.append((name[1] if name else "", plain if quoted is None else quoted.replace('""', '"')))
        position = match.end() + 1
        if match.end() >= len(text) or text[match.end()] == "\n":
            return cells, position, obstacle


def _values(
    cells: Sequence[tuple[str, str]], info: Mapping[str, Mapping[str, Any]], found: list[tuple[str, str]]
) -> dict[str, Any]:
    """Settings of a folder; ``found`` receives messages and hints."""
    values: dict[str, Any] = {"folder": cells[0][1]}
    if not cells[0][1]:
        found.append(("A folder is missing.", "Begin the line with the path of a folder."))
    for name, text in cells[1:]:
        if not name:
            if text:
                found.append((f"{shown(text)} is not a setting.", "Write name=value, such as repeats=2."))
        elif name not in info or name == "folder":
            match = difflib.get_close_matches(name, info, n=1)
            hint = f"Did you mean {match[0]}?" if match else f"Use {', '.join(list(info)[1:])}."
            found.append((f"There is no setting {shown(name)}.", hint))
        elif name in values:
            found.append((f"{name} is given twice.", "Remove one of them."))
        else:
            try:
                values[name] = _read(text, info[name])
            except ValueError as error:
                found.append((f"{name}={shown(text)} cannot be used.", f"Give {error}."))
    return values


def _read(text: str, info: Mapping[str, Any]) -> Any:
    """The value of a setting.

    Raises:
        ValueError: what must be given instead.
    """
    kind, choices = info["type"], info["choices"]
    if choices and text not in choices:
        raise ValueError(f"one of {', '.join(filter(None, choices))}")
    if kind == "tuple":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == "bool":
        if text.lower() not in _YES_OR_NO:
            raise ValueError("yes or no")
        return _YES_OR_NO[text.lower()]
    return _number(text, kind) if kind in ("int", "float") else text


def _number(text: str, kind: str) -> int | float:
    """A finite number.

    Raises:
        ValueError: what must be given instead.
    """
    what = "a whole number" if kind == "int" else "a number"
    try:
        number = float(text)
    except ValueError:
        raise ValueError(what) from None
    if not math.isfinite(number) or (kind == "int" and not number.is_integer()):
        raise ValueError(what)
    return int(number) if kind == "int" else number
