"""Fusing bundles, within the bundle tools."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.fusing import FUSE_BUTTONS, FUSE_FIELDS, FUSE_MESSAGES

__all__ = ["create_fusing"]


def create_fusing() -> dict[str, Any]:
    """All components by name, each with the prefix ``fuse_``."""
    parts: dict[str, Any] = {}
    with gr.Accordion(FUSE_MESSAGES["heading"], open=False, elem_id=_id("more")):
        # The choices are filled in when the bundle tools are opened; the application checks the values.
        parts["others"] = gr.Dropdown(value=[], choices=[], multiselect=True, **_common("others"))
        with gr.Row(elem_classes=["pivotal-row"]):
            parts["rank"] = gr.Textbox(value="", max_lines=1, min_width=120, **_common("rank"))
            parts["data"] = gr.Textbox(value="", max_lines=1, min_width=240, **_common("data"))
        with gr.Row(elem_classes=["pivotal-row"]):
            parts["start"] = gr.Button(FUSE_BUTTONS["start"], min_width=100, elem_id=_id("start"))
            parts["stop"] = gr.Button(FUSE_BUTTONS["stop"], min_width=100, interactive=False, elem_id=_id("stop"))
        parts["view"] = gr.HTML("", elem_id=_id("view"))
        # The webui's own script puts its progress bar into this element.
        gr.HTML(f'<div class="pivotal-progress"><div id="{_id("bar")}"></div></div>', elem_id=_id("progress"))
    parts["shows"] = gr.Textbox(value="", visible=False, label="fuse_shows", elem_id=_id("shows"))
    parts["page"] = gr.Textbox(value="", visible=False, label="fuse_page", elem_id=_id("page"))
    parts["refresh"] = gr.Button("refresh", visible=False, elem_id=_id("refresh"))
    for component in parts.values():
        # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: see ``fields._make``.
        component.do_not_save_to_config = True
    return {f"fuse_{name}": component for name, component in parts.items()}


def _id(name: str) -> str:
    return element_id("fuse", name)


def _common(name: str) -> dict[str, Any]:
    label, help_text = FUSE_FIELDS[name]
    return {"label": label, "info": help_text, "elem_id": _id(name)}
