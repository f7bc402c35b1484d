"""What a first visitor sees: the three steps to a bundle, and a button that tries them with sample images."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.training import BUTTONS, FIRST_STEPS

__all__ = ["create_first_visit"]


def create_first_visit() -> dict[str, Any]:
    """The steps and the button, hidden until the page knows that there has been no run, by name."""
    with gr.Group(visible=False, elem_id=element_id("first", "steps"), elem_classes=["pivotal-card"]) as steps:
        items = "".join(f"<li><b>{escape_html(name)}</b> {escape_html(text)}</li>" for name, text in FIRST_STEPS)
        gr.HTML(f'<ol class="pivotal-steps">{items}</ol>', elem_id=element_id("first", "list"))
        button = gr.Button(BUTTONS["samples"], elem_id=element_id("first", "samples"))
    return {"first_visit": steps, "samples": button}
