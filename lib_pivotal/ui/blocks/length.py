"""How long the planned run is, with buttons that fill in the number of steps."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.length_view import show_no_length
from lib_pivotal.ui.text.length import LENGTH_BUTTONS, LENGTH_HEADING

__all__ = ["create_length"]


def create_length() -> dict[str, Any]:
    """All components by name; the page's script presses the hidden button after a change."""
    gr.HTML(f'<h3 class="pivotal-heading">{LENGTH_HEADING}</h3>', elem_id=element_id("length", "heading"))
    parts: dict[str, Any] = {"length": gr.HTML(show_no_length(), elem_id=element_id("length", "view"))}
    with gr.Row(elem_classes=["pivotal-buttons"]):
        for name, text in LENGTH_BUTTONS.items():
            parts[name] = gr.Button(text, min_width=100, elem_id=element_id("length", name.removeprefix("length_")))
    parts["length_refresh"] = gr.Button("length", visible=False, elem_id=element_id("length", "refresh"))
    return parts
