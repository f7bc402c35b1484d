"""The settings: basic ones visible, the others in accordions, all made from the schema."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.core.config.schema import field_info
from lib_pivotal.ui.blocks.concepts import create_concepts
from lib_pivotal.ui.blocks.length import create_length
from lib_pivotal.ui.fields import SUBSETS, make_setting, make_subsets_field, settings_of
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.training import ACCORDIONS, BASIC_HEADINGS

__all__ = ["create_settings"]

_PER_ROW = 3


def create_settings() -> dict[str, Any]:
    """Every setting of the tab by name, the concepts table, the further folders, and how long the run is."""
    parts: dict[str, Any] = {}
    for block, heading in BASIC_HEADINGS.items():
        if block == "training":
            parts.update(create_length())
        gr.HTML(f'<h3 class="pivotal-heading">{heading}</h3>', elem_id=element_id(block, "heading"))
        parts.update(create_concepts() if block == "concepts" else _create(settings_of(block, "basic")))
    for block, heading in ACCORDIONS.items():
        names = settings_of("", "expert") if block == "expert" else settings_of(block, "advanced")
        with gr.Accordion(heading, open=False, elem_id=element_id(block, "more")):
            if block == "images":
                parts[SUBSETS] = make_subsets_field()
            parts.update(_create(names))
    return parts


def _create(names: list[str]) -> dict[str, Any]:
    parts = {}
    for line in _lines(names):
        with gr.Row(elem_classes=["pivotal-row"]):
            for name in line:
                parts[name] = make_setting(name)
    return parts


def _lines(names: list[str]) -> list[list[str]]:
    """Names by row of the page: text fields get a row of their own, other fields share one."""
    lines: list[list[str]] = []
    is_open = False
    for name in names:
        info = field_info()[name]
        is_wide = info["type"] == "str" and not info["choices"]
        if is_wide or not is_open or len(lines[-1]) == _PER_ROW:
            lines.append([])
        lines[-1].append(name)
        is_open = not is_wide
    return lines
