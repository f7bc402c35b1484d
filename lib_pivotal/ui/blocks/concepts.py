"""The concepts: a table that the page's script draws, or text, and the hidden components behind them."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from lib_pivotal.core.config.presets import presets
from lib_pivotal.core.config.schema import concept_field_info
from lib_pivotal.ui.concept_report import REPORT
from lib_pivotal.ui.concept_rows import AS_TEXT, CONCEPTS, TEXT
from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.concepts import CONCEPT_BUTTONS, CONCEPT_LABELS, TABLE_WORDS

__all__ = ["ANSWER", "ASK", "NOTICE", "PATH", "REQUEST", "TABLE", "create_concepts"]

TABLE, NOTICE, PATH = "concepts_table", "concepts_notice", "names_path"
REQUEST, ASK, ANSWER = "concepts_request", "concepts_ask", "concepts_answer"
"""Hidden: what the table asks the server, the button that sends it, and the answer."""

_TEXT_LINES = 12


def create_concepts() -> dict[str, Any]:
    """The table, the text, and the fields that take names from files, by name."""
    parts: dict[str, Any] = {}
    parts[TABLE] = gr.HTML(_container(), elem_id=_id("table"))
    parts[AS_TEXT] = gr.Checkbox(value=False, **_common(AS_TEXT, "as_text"))
    parts[TEXT] = gr.Textbox(value="", lines=_TEXT_LINES, max_lines=_TEXT_LINES, visible=False, **_common(TEXT, "text"))
    parts[NOTICE] = gr.HTML("", elem_id=_id("notice"))
    with gr.Accordion(CONCEPT_LABELS["more_names"], open=False, elem_id=_id("more_names")):
        parts[PATH] = gr.Textbox(value="", max_lines=1, **_common(PATH, "path"))
        with gr.Row():
            for name in CONCEPT_BUTTONS:
                parts[name] = gr.Button(CONCEPT_BUTTONS[name], size="sm", elem_id=_id(name))
    hidden = {CONCEPTS: "json", REPORT: "report", REQUEST: "request", ANSWER: "answer"}
    for name, end in hidden.items():
        value = "[]" if name == CONCEPTS else ""
        parts[name] = gr.Textbox(value=value, visible=False, max_lines=1, label=name, elem_id=_id(end))
    parts[ASK] = gr.Button(ASK, visible=False, elem_id=_id("ask"))
    for name in (AS_TEXT, TEXT, PATH, *hidden):
        # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: see ``fields._make``.
        parts[name].do_not_save_to_config = True
    return parts


def _container() -> str:
    """The element in which the script draws the table, with what it needs to know about the settings."""
    fields = [{"name": name, **info} for name, info in concept_field_info().items()]
    known = {"fields": fields, "copied": list(presets()[0].concept), "words": TABLE_WORDS}
    return f'<div class="pivotal-names" data-known="{escape_html(json.dumps(known))}"></div>'


def _common(name: str, end: str) -> dict[str, Any]:
    return {"label": CONCEPT_LABELS[name], "info": CONCEPT_LABELS[f"{name}_help"], "elem_id": _id(end)}


def _id(name: str) -> str:
    return element_id("concepts", name)
