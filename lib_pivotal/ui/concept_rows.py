"""The concepts as the tab holds them: JSON, or text while they are edited as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib_pivotal.core.config.concept_lines import is_empty_row, read_concept_lines, show_concept_lines
from lib_pivotal.core.config.schema import concept_field_info
from lib_pivotal.core.config.settings_file import MAX_SETTINGS_BYTES
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.ui.text.concepts import CONCEPT_MESSAGES

__all__ = ["AS_TEXT", "CONCEPTS", "CONCEPT_INPUTS", "TEXT", "ConceptRows", "put_rows", "read_rows", "rows_to_change"]

CONCEPTS, AS_TEXT, TEXT = "concepts", "concepts_as_text", "concepts_text"
CONCEPT_INPUTS = (CONCEPTS, AS_TEXT, TEXT)
"""Names of the components that hold the concepts: as JSON, whether the text counts instead, and the text."""

_MAX_COUNT = 100
"""Maximum number of concepts; each of them needs a token that is not in the vocabulary, in every prompt."""
_FIELDS = concept_field_info()


@dataclass(frozen=True)
class ConceptRows:
    """The rows of the table, or the lines of the text.

    Attributes:
        rows: concepts as in JSON; they may be invalid.
        used: index of each row that is not empty.
        lines: number of the line of each row, if they come from the text; otherwise empty.
        problems: why they cannot be read.
    """

    rows: list[Any] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def concepts(self) -> list[Any]:
        """The rows that are not empty, for ``core.config.io.read_dict``."""
        return [_trimmed(self.rows[row]) for row in self.used]


def read_rows(values: Mapping[str, Any]) -> ConceptRows:
    """The concepts on the tab.

    Args:
        values: of the components :data:`CONCEPT_INPUTS`, by name.
    """
    rows, lines, problems = _lines(values[TEXT] or "") if values[AS_TEXT] else _objects(values[CONCEPTS] or "[]")
    used = [index for index, row in enumerate(rows) if not is_empty_row(row)]
    if len(used) > _MAX_COUNT:
        text = CONCEPT_MESSAGES["too_many"].format(count=len(used), most=_MAX_COUNT)
        problems = [*problems, Problem(CONCEPTS, "error", text, CONCEPT_MESSAGES["too_many_hint"])]
    return ConceptRows(rows, used, lines, problems)


def rows_to_change(values: Mapping[str, Any]) -> list[Any]:
    """The concepts on the tab, to be written back after a change.

    Args:
        values: as in :func:`read_rows`.

    Raises:
        ConfigError: some of it cannot be read and would be lost.
    """
    read = read_rows(values)
    if read.problems:
        raise ConfigError(read.problems)
    return read.rows


def put_rows(rows: Sequence[Any], *, as_text: bool = False) -> dict[str, Any]:
    """Values of the components that show these concepts, by name.

    Args:
        rows: concepts as in JSON.
        as_text: whether they are being edited as text.
    """
    if as_text:
        return {TEXT: show_concept_lines([row for row in rows if isinstance(row, Mapping)])}
    return {CONCEPTS: json.dumps(list(rows)), AS_TEXT: False, TEXT: ""}


def _lines(text: str) -> tuple[list[Any], list[int], list[Problem]]:
    if not text.strip():
        return [], [], [_problem("empty_text", "empty_text_hint", TEXT)]
    read = read_concept_lines(text)
    return list(read.rows), read.lines, read.problems


def _objects(text: str) -> tuple[list[Any], list[int], list[Problem]]:
    if len(text) > MAX_SETTINGS_BYTES:
        return [], [], [_problem("too_long", "restore", limit=MAX_SETTINGS_BYTES >> 10)]
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        return [], [], [_problem("not_json", "restore", error=error)]
    return (rows, [], []) if isinstance(rows, list) else ([], [], [_problem("not_list", "restore")])


def _problem(message: str, hint: str, component: str = CONCEPTS, **words: Any) -> Problem:
    return Problem(component, "error", CONCEPT_MESSAGES[message].format(**words), CONCEPT_MESSAGES[hint])


def _trimmed(row: Any) -> Any:
    """The row without spaces around its texts; a name is never missing, only empty."""
    if not isinstance(row, Mapping):
        return row
    return {"name": "", **{name: _trim(value) for name, value in row.items()}}


def _trim(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        parts = [part.strip() if isinstance(part, str) else part for part in value]
        return [part for part in parts if part != ""]
    return value
