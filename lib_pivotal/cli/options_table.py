"""The settings as Markdown tables, for ``docs/options.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_pivotal.core.config.schema import concept_field_info, field_info, subset_field_info

__all__ = ["options_table"]

_HEAD = """\
# Settings

Each setting has one name everywhere: it is the key in the JSON file and in the HTTP API, the end of the element's id on
the tab, and the key in the bundle's metadata. This page is the output of
`python -m lib_pivotal options`.

"""
_COLUMNS = """\
| name | on the tab | default | range | what it does |
|---|---|---|---|---|
"""
_CONCEPTS = """
## Concepts

`concepts` is a list of objects with these fields.

"""
_SUBSETS = """
## Subsets

`subsets` is a list of objects with these fields: folders in addition to `data_folder`.

"""


def options_table() -> str:
    """Every setting and every field of a concept or subset with its label, level, default, range and help."""
    settings = _HEAD + _COLUMNS + _rows(field_info())
    concepts = _CONCEPTS + _COLUMNS + _rows(concept_field_info())
    return settings + concepts + _SUBSETS + _COLUMNS + _rows(subset_field_info())


def _rows(infos: Mapping[str, Mapping[str, Any]]) -> str:
    return "".join(_row(name, info) for name, info in infos.items())


def _row(name: str, info: Mapping[str, Any]) -> str:
    label = "–" if info["level"] == "headless" else f"{info['label']} ({info['level']})"
    return f"| `{name}` | {label} | {_default(info['default'])} | {_allowed(info)} | {info['help']} |\n"


def _default(value: Any) -> str:
    """The default as JSON writes it; nothing for an empty one."""
    if value in ("", ()):
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`"


def _allowed(info: Mapping[str, Any]) -> str:
    if info["low"] is None:
        return ", ".join(info["choices"]) + (" and others" if info["allows_others"] else "")
    low = f"above {_number(info['low'])}" if info["is_low_excluded"] else _number(info["low"])
    return f"{low} … {_number(info['high'])}" + (f" {info['unit']}" if info["unit"] else "")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"
