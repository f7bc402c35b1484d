"""Concepts as text, one per line, as it is typed or pasted from a spreadsheet.

    name; initialization text; vectors; caption tags
    zog_v1; small teal robot; 4; zog, "zog, the first"

Columns are separated by tabs, semicolons or commas; without a line of headings they come in the order of the settings.
``zog_v1 = small teal robot`` and a name by itself work, too. A cell in quotes may contain separators, line breaks and,
doubled, quotes; so may a tag within its cell.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib_pivotal.core.config.schema import concept_field_info
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.errors import Problem

__all__ = ["ConceptLines", "is_empty_row", "read_concept_lines", "show_concept_lines"]

_FIELDS = concept_field_info()
_ALWAYS_SHOWN = ("name", "init_text", "vectors", "aliases")
_MAX_LENGTH = 2**20

# Headings in tables that people have, besides the names and labels of the settings.
_OTHER_HEADINGS = {
    "trigger word": "name",
    "word": "name",
    "start": "init_text",
    "start words": "init_text",
    "stands for": "aliases",
    "rate": "lr_multiplier",
    "freeze": "stop_at",
}
_HEADINGS = {
    **_OTHER_HEADINGS,
    **{name.replace("_", " "): name for name in _FIELDS},
    **{info["label"].lower(): name for name, info in _FIELDS.items()},
}

_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_ASSIGNMENT = re.compile(r'[^=;,\t"]+=')
_TAG = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*(?=,|\Z)|([^,]*))')


@dataclass
class ConceptLines:
    """What the text says.

    Attributes:
        rows: concepts as in JSON, with the settings that the text gives; a number that cannot be read stays text.
        lines: number of the line of each of them, from 1.
        problems: errors about the field ``concepts_text`` that name the line.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def complain(self, line: int, message: str, hint: str) -> None:
        """Add an error about a line."""
        self.problems.append(Problem("concepts_text", "error", f"Line {line}: {message}", hint))


def show_concept_lines(rows: Sequence[Mapping[str, Any]], separator: str = "; ") -> str:
    """The text that :func:`read_concept_lines` reads as these concepts, with a line of headings.

    Args:
        rows: concepts as in JSON; settings that are missing have their defaults, unknown ones are left out.
        separator: ``"; "``, a tab, or a comma for CSV files.
    """
    names = [
        name
        for name, info in _FIELDS.items()
        if name in _ALWAYS_SHOWN or any(_cell(row, name) != _show(info["default"]) for row in rows)
    ]
    lines = [[_FIELDS[name]["label"].lower() for name in names]]
    lines += [[_quoted(_cell(row, name), separator) for name in names] for row in rows]
    return "\n".join(separator.join(line).rstrip(" ") for line in lines)


def _cell(row: Mapping[str, Any], name: str) -> str:
    return _show(row.get(name, _FIELDS[name]["default"]))


def _show(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_quoted_tag(str(item)) for item in value)
    if isinstance(value, float):
        # repr gives the shortest text that reads back as the same number.
        return repr(value).removesuffix(".0")
    return "" if value is None else str(value)


def _quoted_tag(text: str) -> str:
    return _in_quotes(text) if not text or text != text.strip() or "," in text or '"' in text else text


def _quoted(text: str, separator: str) -> str:
    special = (separator.strip(" "), '"', "\n", "\r")
    return _in_quotes(text) if text != text.strip() or any(mark in text for mark in special) else text


def _in_quotes(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def read_concept_lines(text: str, first: str = "name") -> ConceptLines:
    """Read concepts, one per line; empty lines are skipped.

    Args:
        text: as a user typed it, or pasted it from a spreadsheet.
        first: setting of the first column, if there is no line of headings.
    """
    read = ConceptLines()
    if len(text) > _MAX_LENGTH:
        read.complain(1, "The text is too long to be a list of concepts.", "Paste only the columns of the concepts.")
        return read
    separator = _separator(text) if first == "name" else _columns_separator(text)
    names = list(_FIELDS)[list(_FIELDS).index(first) :]
    is_first = True
    for line, cells in _lines(text, separator, read):
        if not any(cells):
            continue
        headings = [_HEADINGS.get(_plain(cell)) for cell in cells]
        if is_first and "name" in headings:
            names = _columns(line, cells, read)
        else:
            read.rows.append(_row(line, cells, names, read, decimal_comma=separator != ","))
            read.lines.append(line)
        is_first = False
    _find_doubles(read)
    return read


def _separator(text: str) -> str:
    """What separates the columns: ``=`` for names with their texts, empty if there is only one column."""
    lines = [line for line in _QUOTED.sub("", text).split("\n") if line.strip()]
    # The first line decides, because later ones may contain other separators in their texts.
    for part in (lines[:1], lines):
        if any("\t" in line for line in part):
            return "\t"
        if any(_ASSIGNMENT.match(line) for line in part):
            return "="
        for mark in ";,":
            if any(mark in line for line in part):
                return mark
    return ""


def _columns_separator(text: str) -> str:
    """Only tabs separate columns to the right of the names: texts and tags contain the other separators."""
    return "\t" if "\t" in text else ""


def _lines(text: str, separator: str, read: ConceptLines) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line; cells in quotes may span several lines of the text."""
    if separator in ("=", ""):
        for number, line in enumerate(text.split("\n"), 1):
            yield number, [cell.strip() for cell in (line.split("=", 1) if separator else [line])]
        return
    blank = "[ \r]*" if separator == "\t" else "[ \t\r]*"
    cell = re.compile(rf'{blank}(?:"((?:[^"]|"")*)"{blank}(?=[{separator}\n]|\Z)|([^{separator}\n]*))')
    position, number = 0, 1
    while position < len(text):
        cells, start = list[str](), position
        while True:
            match = cell.match(text, position)
            assert match is not None, "the pattern matches everything"
            quoted, plain = match.groups()
            if quoted is None and plain.lstrip().startswith('"'):
                hint = 'Double quotes inside it: "".'
                read.complain(number, "A quote at the beginning of a cell needs one at its end.", hint)
            cells.append(plain.strip() if quoted is None else quoted.replace('""', '"'))
            position = match.end() + 1
            if match.end() >= len(text) or text[match.end()] == "\n":
                break
        yield number, cells
        number += text.count("\n", start, position)


def _columns(line: int, cells: Sequence[str], read: ConceptLines) -> list[str]:
    """Settings of the columns by their headings; empty for a column that is left out."""
    names: list[str] = []
    for cell in cells:
        name = _HEADINGS.get(_plain(cell), "")
        if cell and not name:
            close = difflib.get_close_matches(_plain(cell)[:100], _HEADINGS, n=1)
            known = ", ".join(str(info["label"]).lower() for info in _FIELDS.values())
            hint = f"Did you mean {close[0]}?" if close else f"Columns are: {known}."
            read.complain(line, f"There is no column {shown(cell)}, so it is left out.", hint)
        elif name in names:
            read.complain(line, f"{shown(cell)} is a second column of the same kind, so it is left out.", "Remove it.")
            name = ""
        names.append(name)
    return names


def _row(
    line: int, cells: Sequence[str], names: Sequence[str], read: ConceptLines, *, decimal_comma: bool
) -> dict[str, Any]:
    """The settings of one concept; empty cells give nothing."""
    row: dict[str, Any] = {}
    if any(cells[len(names) :]):
        text = f"There are {len(cells)} cells, but only {len(names)} columns; the last ones are left out."
        read.complain(line, text, "Put text with separators in quotes.")
    for name, cell in zip(names, cells, strict=False):
        if not name or not cell:
            continue
        kind = _FIELDS[name]["type"]
        row[name] = _value(cell, kind, decimal_comma=decimal_comma)
        if kind in ("int", "float") and isinstance(row[name], str):
            what = "a whole number" if kind == "int" else "a number"
            read.complain(
                line, f"{shown(cell)} is not {what}.", f"Correct the column {_FIELDS[name]['label'].lower()}."
            )
    return row


def _value(text: str, kind: str, *, decimal_comma: bool) -> Any:
    """The value as in JSON; a number that cannot be read stays text."""
    if kind == "tuple":
        return _tags(text)
    if kind not in ("int", "float"):
        return text
    try:
        if kind == "int" and len(text) < 20:
            return int(text)
    except ValueError:
        pass
    try:
        number = float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        return text
    if not math.isfinite(number) or (kind == "int" and not number.is_integer()):
        return text
    return int(number) if kind == "int" else number


def _tags(text: str) -> list[str]:
    tags, position = list[str](), 0
    while position <= len(text):
        match = _TAG.match(text, position)
        assert match is not None, "the pattern matches everything"
        quoted, plain = match.groups()
        if quoted is not None:
            tags.append(quoted.replace('""', '"'))
        elif plain.strip():
            tags.append(plain.strip())
        position = match.end() + 1
    return tags


def is_empty_row(row: Any) -> bool:
    """Whether a concept as in JSON names nothing: an unused row of a table; anything but an object is not empty."""
    if not isinstance(row, Mapping):
        return False
    aliases = row.get("aliases")
    texts = [row.get("name"), row.get("init_text"), *(aliases if isinstance(aliases, list) else [aliases])]
    return not any(text.strip() if isinstance(text, str) else text for text in texts)


def _plain(heading: str) -> str:
    return " ".join(heading.lower().replace("_", " ").split())


def _find_doubles(read: ConceptLines) -> None:
    """Names that are the same to the tokenizer, which ignores case and the amount of whitespace."""
    first: dict[str, int] = {}
    for line, row in zip(read.lines, read.rows, strict=True):
        name = row.get("name", "")
        key = " ".join(unicodedata.normalize("NFC", name.lower()).split())
        if key and first.setdefault(key, line) != line:
            read.complain(line, f"The name {shown(name)} is already in line {first[key]}.", "Rename one.")
