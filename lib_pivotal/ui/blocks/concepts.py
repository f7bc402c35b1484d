"""The concepts table: a fixed number of rows, shown as needed."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.core.config.schema import concept_field_info
from lib_pivotal.ui.fields import CONCEPT_ROWS, concept_key, make_concept_field
from lib_pivotal.ui.ids import concept_id, element_id
from lib_pivotal.ui.text.training import BUTTONS

__all__ = ["ROW_COUNT", "create_concepts", "row_key", "show_rows"]

ROW_COUNT = "concept_rows"
"""Name of the hidden component that holds the number of visible rows."""

_NUMBERS = [name for name, info in concept_field_info().items() if info["type"] in ("int", "float")]
_TEXTS = [name for name in concept_field_info() if name not in _NUMBERS]


def row_key(row: int) -> str:
    """Name of a whole row."""
    return f"concept_row_{row}"


def create_concepts() -> dict[str, Any]:
    """All rows, the first one visible, and the buttons that show and hide them."""
    parts: dict[str, Any] = {}
    for row in range(CONCEPT_ROWS):
        with gr.Group(visible=row == 0, elem_id=concept_id(row, "row"), elem_classes=["pivotal-concept"]) as parts[
            row_key(row)
        ]:
            for names in (_TEXTS, _NUMBERS):
                with gr.Row(elem_classes=["pivotal-row"]):
                    for name in names:
                        parts[concept_key(row, name)] = make_concept_field(row, name)
    with gr.Row():
        for name in ("add_concept", "remove_concept"):
            parts[name] = gr.Button(BUTTONS[name], size="sm", elem_id=element_id("concepts", name))
    parts[ROW_COUNT] = gr.Number(value=1, visible=False, label=ROW_COUNT, elem_id=element_id("concepts", "count"))
    parts[ROW_COUNT].do_not_save_to_config = True
    return parts


def show_rows(count: int) -> dict[str, Any]:
    """Output values that make the first ``count`` rows visible."""
    count = min(max(count, 1), CONCEPT_ROWS)
    return {ROW_COUNT: count, **{row_key(row): gr.update(visible=row < count) for row in range(CONCEPT_ROWS)}}
