"""The buttons at the top, and the right column: progress, samples and result."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.training import BUTTONS, LABELS

__all__ = ["create_buttons", "create_monitor"]

_ON_TOP = {
    "check": "secondary",
    "train": "primary",
    "queue_add": "secondary",
    "stop": "stop",
    "discard": "secondary",
    "restore": "secondary",
}

# The webui's own script puts its progress bar and its live preview into these two elements. The images of the preview
# have no descriptions, and each of them is shown below with one.
_PROGRESS = (
    '<div class="pivotal-progress"><div id="pivotal_progress_here"></div></div>'
    '<div id="pivotal_live" aria-hidden="true"></div>'
)


def create_buttons() -> dict[str, Any]:
    """Check, Train, Stop, Discard, Restore, Add to queue, and the notice that responds to every click."""
    with gr.Row(elem_id=element_id("run", "buttons"), elem_classes=["pivotal-buttons"]):
        parts: dict[str, Any] = {name: _button(name, variant) for name, variant in _ON_TOP.items()}
    parts["notice"] = gr.HTML("", elem_id=element_id("run", "notice"))
    return parts


def create_monitor() -> dict[str, Any]:
    """Status, progress, loss, samples and result, and the hidden components that the page's script uses."""
    parts: dict[str, Any] = {"status": gr.HTML("", elem_id=element_id("run", "status"))}
    parts["warnings"] = gr.HTML("", elem_id=element_id("run", "warnings"))
    gr.HTML(_PROGRESS, elem_id=element_id("run", "progress"))
    with gr.Group(visible=False, elem_id=element_id("result", "card"), elem_classes=["pivotal-card"]) as parts["card"]:
        parts["words"] = gr.Textbox(
            label=LABELS["words"], max_lines=3, interactive=False, elem_id=element_id("result", "words")
        )
        with gr.Row():
            for name in ("send", "copy"):
                parts[name] = gr.Button(BUTTONS[name], elem_id=element_id("result", name))
        parts["result"] = gr.HTML("", elem_id=element_id("result", "paths"))
    parts["plot"] = gr.HTML("", elem_id=element_id("run", "plot"))
    parts["gallery"] = gr.Gallery(
        label=LABELS["gallery"], columns=3, object_fit="contain", elem_id=element_id("run", "gallery")
    )
    with gr.Row():
        for name in ("sample_now", "save_now"):
            parts[name] = _button(name, "secondary")
    for name in ("page_status", "gallery_shows", "view_shows", "card_bundle"):
        parts[name] = gr.Textbox(value="", visible=False, label=name, elem_id=element_id("run", name))
    for name in ("load", "refresh"):
        parts[name] = gr.Button(name, visible=False, elem_id=element_id("run", name))
    for name in ("words", "page_status", "gallery_shows", "view_shows", "card_bundle"):
        parts[name].do_not_save_to_config = True
    return parts


def _button(name: str, variant: str) -> Any:
    return gr.Button(BUTTONS[name], variant=variant, min_width=80, elem_id=element_id("run", name))
