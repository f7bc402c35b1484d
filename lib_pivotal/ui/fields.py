"""Makes components from the settings' schema, and converts between their values and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.presets import Preset
from lib_pivotal.core.config.schema import Concept, TrainConfig, concept_field_info, field_info
from lib_pivotal.core.config.subset_lines import read_subset_lines, show_subset_lines
from lib_pivotal.core.errors import Problem
from lib_pivotal.ui.ids import concept_id, element_id
from lib_pivotal.ui.text.training import LABELS, SUBSETS_HELP, concept_label

__all__ = [
    "CONCEPT_ROWS",
    "SUBSETS",
    "concept_key",
    "empty_row",
    "in_rows",
    "input_names",
    "make_concept_field",
    "make_setting",
    "make_subsets_field",
    "read_config",
    "settings_of",
    "show_config",
    "show_preset",
]

CONCEPT_ROWS = 8

SUBSETS = "subsets"
"""Name of the text field with the further folders, see ``core.config.subset_lines``."""
_SUBSET_LINES = 3

_CONCEPT_FIELDS = concept_field_info()
_EMPTY_CONCEPT = Concept()


def settings_of(block: str, *levels: str) -> list[str]:
    """Names of the settings with one of these levels in a block (empty: in all blocks), in the schema's order."""
    return [
        name for name, info in field_info().items() if info["level"] in levels and (not block or info["block"] == block)
    ]


def concept_key(row: int, name: str) -> str:
    """Name of a cell of the concepts table; rows count from 0."""
    return f"concepts[{row}].{name}"


def input_names() -> list[str]:
    """Names of all values on the tab that belong to a run's settings, in the order in which they are sent."""
    cells = [concept_key(row, name) for row in range(CONCEPT_ROWS) for name in _CONCEPT_FIELDS]
    return [*cells, *settings_of("", "basic", "advanced", "expert"), SUBSETS]


def make_setting(name: str) -> Any:
    """The component of a setting.

    Fractions are text fields: a number field steps by 1 and shows 2e-4 as many zeros. Limits are left to the
    checks, which report all problems together.
    """
    info = field_info()[name]
    label = f"{info['label']} ({info['unit']})" if info["unit"] else info["label"]
    common = {"label": label, "info": info["help"], "elem_id": element_id(info["block"], name)}
    value = _show(info["default"], info["type"])
    return _make(info["type"], value, common, choices=info["choices"], lines=3 if name == "sample_prompts" else 1)


def make_concept_field(row: int, name: str) -> Any:
    """The component of a cell of the concepts table; only the first row shows help texts."""
    info = _CONCEPT_FIELDS[name]
    common = {
        "label": concept_label(row, name),
        "info": info["help"] if row == 0 else None,
        "elem_id": concept_id(row, name),
    }
    return _make(info["type"], _show(info["default"], info["type"]), common, choices=info["choices"])


def make_subsets_field() -> Any:
    """The text field with the further folders of the data set, one per line."""
    common = {"label": LABELS[SUBSETS], "info": SUBSETS_HELP, "elem_id": element_id("images", SUBSETS)}
    return _make("str", "", common, lines=_SUBSET_LINES)


def _make(kind: str, value: Any, common: dict[str, Any], choices: tuple[str, ...] = (), lines: int = 1) -> Any:
    if choices:
        component = gr.Dropdown(value=value, choices=list(choices), **common)
    elif kind == "bool":
        component = gr.Checkbox(value=value, **common)
    elif kind == "int":
        component = gr.Number(value=value, min_width=120, **common)
    else:
        component = gr.Textbox(value=value, lines=lines, max_lines=lines, min_width=120, **common)
    # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: otherwise the default at the first start would be kept forever
    # in the user's ui-config.json. Our own last.json remembers the settings.
    component.do_not_save_to_config = True
    return component


def read_config(values: Mapping[str, Any]) -> tuple[TrainConfig, list[Problem]]:
    """The settings on the tab, and the values that cannot be read, see ``core.config.io.read_dict``.

    Args:
        values: by name, see :func:`input_names`.
    """
    types = {name: info["type"] for name, info in field_info().items()}
    settings = {name: _read(values[name], types[name]) for name in settings_of("", "basic", "advanced", "expert")}
    concepts = [_read_row(values, row) for row in _used_rows(values)]
    config, problems = read_dict({"concepts": concepts, **settings})
    read = read_subset_lines(values[SUBSETS] or "")
    return replace(config, subsets=read.subsets), [*problems, *read.problems]


def in_rows(problems: Sequence[Problem], values: Mapping[str, Any]) -> list[Problem]:
    """Problems with numbers of concepts and folders changed to rows and lines of the tab, which may be empty.

    Args:
        problems: of the settings from :func:`read_config`.
        values: as in :func:`read_config`.
    """
    rows = _used_rows(values)

    def row_of(match: re.Match[str]) -> str:
        return f"concepts[{rows[int(match[1])]}]"

    lines = read_subset_lines(values[SUBSETS] or "").lines
    in_table = [replace(item, field=re.sub(r"^concepts\[(\d+)\]", row_of, item.field)) for item in problems]
    return [_in_line(item, lines) for item in in_table]


def _in_line(problem: Problem, lines: Sequence[int]) -> Problem:
    """A problem of one of the further folders, with the number of its line."""
    match = re.fullmatch(r"subsets\[(\d+)\]\.(\w+)", problem.field)
    if not match:
        return problem
    return replace(problem, field=SUBSETS, message=f"Line {lines[int(match[1])]}, {match[2]}: {problem.message}")


def _used_rows(values: Mapping[str, Any]) -> list[int]:
    rows = ((row, _read_row(values, row)) for row in range(CONCEPT_ROWS))
    return [row for row, concept in rows if concept["name"] or concept["init_text"] or concept["aliases"]]


def _read_row(values: Mapping[str, Any], row: int) -> dict[str, Any]:
    return {name: _read(values[concept_key(row, name)], _CONCEPT_FIELDS[name]["type"]) for name in _CONCEPT_FIELDS}


def show_config(config: TrainConfig) -> dict[str, Any]:
    """The tab's values for these settings, by name; concepts beyond the last row are omitted."""
    values: dict[str, Any] = {}
    for row in range(CONCEPT_ROWS):
        values.update(_show_concept(row, config.concepts[row]) if row < len(config.concepts) else empty_row(row))
    for name in settings_of("", "basic", "advanced", "expert"):
        values[name] = _show(getattr(config, name), field_info()[name]["type"])
    values[SUBSETS] = show_subset_lines(config.subsets)
    return values


def show_preset(preset: Preset) -> dict[str, Any]:
    """The tab's values that a preset fills in, by name; those of concepts in every row."""
    values = {name: _show(value, field_info()[name]["type"]) for name, value in preset.settings.items()}
    for row in range(CONCEPT_ROWS):
        for name, value in preset.concept.items():
            values[concept_key(row, name)] = _show(value, _CONCEPT_FIELDS[name]["type"])
    return values


def empty_row(row: int) -> dict[str, Any]:
    """The tab's values of an unused row of the concepts table, by name."""
    return _show_concept(row, _EMPTY_CONCEPT)


def _show_concept(row: int, concept: Concept) -> dict[str, Any]:
    return {
        concept_key(row, name): _show(getattr(concept, name), _CONCEPT_FIELDS[name]["type"]) for name in _CONCEPT_FIELDS
    }


def _show(value: Any, kind: str) -> Any:
    if kind == "tuple":
        return ", ".join(value)
    if kind == "float":
        # repr gives the shortest text that reads back as the same number.
        text = repr(float(value))
        return text[:-2] if text.endswith(".0") else text.replace("e-0", "e-")
    return value


def _read(value: Any, kind: str) -> Any:
    """The value as in JSON; if it cannot be read, it stays as it is and ``read_dict`` reports it."""
    if kind == "str":
        return (value or "").strip()
    if kind == "tuple":
        return [part.strip() for part in (value or "").split(",") if part.strip()]
    if kind == "float" and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return "" if value is None else value
