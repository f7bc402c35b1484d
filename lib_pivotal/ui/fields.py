"""Makes components from the settings' schema, and converts between their values and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from lib_pivotal.core.config.io import read_dict, to_dict
from lib_pivotal.core.config.presets import Preset
from lib_pivotal.core.config.schema import TrainConfig, concept_field_info, field_info
from lib_pivotal.core.config.subset_lines import read_subset_lines, show_subset_lines
from lib_pivotal.core.errors import Problem
from lib_pivotal.ui.concept_rows import AS_TEXT, CONCEPT_INPUTS, TEXT, ConceptRows, put_rows, read_rows, rows_to_change
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.training import LABELS, SUBSETS_HELP

__all__ = [
    "SUBSETS",
    "in_rows",
    "input_names",
    "make_setting",
    "make_subsets_field",
    "read_config",
    "settings_of",
    "show_config",
    "show_preset",
]


SUBSETS = "subsets"
"""Name of the text field with the further folders, see ``core.config.subset_lines``."""
_SUBSET_LINES = 3

_CONCEPT_FIELDS = concept_field_info()


def settings_of(block: str, *levels: str) -> list[str]:
    """Names of the settings with one of these levels in a block (empty: in all blocks), in the schema's order."""
    return [
        name for name, info in field_info().items() if info["level"] in levels and (not block or info["block"] == block)
    ]


def input_names() -> list[str]:
    """Names of all values on the tab that belong to a run's settings, in the order in which they are sent."""
    return [*CONCEPT_INPUTS, *settings_of("", "basic", "advanced", "expert"), SUBSETS]


def make_setting(name: str) -> Any:
    """The component of a setting.

    Fractions are text fields: a number field steps by 1 and shows 2e-4 as many zeros. Limits are left to the
    checks, which report all problems together.
    """
    info = field_info()[name]
    label = f"{info['label']} ({info['unit']})" if info["unit"] else info["label"]
    common = {"label": label, "info": info["help"], "elem_id": element_id(info["block"], name)}
    value = _show(info["default"], info["type"])
    if info["allows_others"]:
        common["allow_custom_value"] = True
    return _make(info["type"], value, common, choices=info["choices"], lines=3 if name == "sample_prompts" else 1)


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
    names = read_rows(values)
    config, problems = read_dict({"concepts": names.concepts(), **settings})
    read = read_subset_lines(values[SUBSETS] or "")
    return replace(config, subsets=read.subsets), [*names.problems, *problems, *read.problems]


def in_rows(problems: Sequence[Problem], values: Mapping[str, Any]) -> list[Problem]:
    """Problems with numbers of concepts and folders changed to rows and lines of the tab, which may be empty.

    Args:
        problems: of the settings from :func:`read_config`.
        values: as in :func:`read_config`.
    """
    names = read_rows(values)
    lines = read_subset_lines(values[SUBSETS] or "").lines
    return [_in_line(_in_row(item, names), lines) for item in problems]


def _in_row(problem: Problem, names: ConceptRows) -> Problem:
    """A problem of a concept, with the number of its row or of its line."""
    match = re.fullmatch(r"concepts\[(\d+)\](?:\.(\w+))?", problem.field)
    if not match:
        return problem
    row = names.used[int(match[1])]
    if not names.lines:
        return replace(problem, field=problem.field.replace(match[1], str(row), 1))
    label = _CONCEPT_FIELDS[match[2]]["label"].lower() + ": " if match[2] in _CONCEPT_FIELDS else ""
    return replace(problem, field=TEXT, message=f"Line {names.lines[row]}: {label}{problem.message}")


def _in_line(problem: Problem, lines: Sequence[int]) -> Problem:
    """A problem of one of the further folders, with the number of its line."""
    match = re.fullmatch(r"subsets\[(\d+)\]\.(\w+)", problem.field)
    if not match:
        return problem
    return replace(problem, field=SUBSETS, message=f"Line {lines[int(match[1])]}, {match[2]}: {problem.message}")


def show_config(config: TrainConfig) -> dict[str, Any]:
    """The tab's values for these settings, by name."""
    values = put_rows(to_dict(config)["concepts"])
    for name in settings_of("", "basic", "advanced", "expert"):
        values[name] = _show(getattr(config, name), field_info()[name]["type"])
    values[SUBSETS] = show_subset_lines(config.subsets)
    return values


def show_preset(preset: Preset, values: Mapping[str, Any]) -> dict[str, Any]:
    """The tab's values that a preset fills in, by name; those of concepts in every row.

    Args:
        preset: the preset.
        values: of the concepts on the tab, as in :func:`read_config`.

    Raises:
        ConfigError: the concepts cannot be read.
    """
    shown = {name: _show(value, field_info()[name]["type"]) for name, value in preset.settings.items()}
    # With an empty row, new rows of the table have the preset's values, too.
    rows = rows_to_change(values) or [{"name": ""}]
    rows = [{**row, **preset.concept} if isinstance(row, Mapping) else row for row in rows]
    return {**shown, **put_rows(rows, as_text=bool(values[AS_TEXT]))}


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
