"""The path field and the button that read the settings of other programs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.training import BUTTONS, LABELS

__all__ = ["create_import"]


def create_import() -> dict[str, Any]:
    """The path and the button, by name."""
    with gr.Row(elem_classes=["pivotal-row"]):
        path = gr.Textbox(
            value="",
            max_lines=1,
            scale=4,
            label=LABELS["path"],
            info=LABELS["path_help"],
            elem_id=element_id("import", "path"),
        )
        button = gr.Button(BUTTONS["import"], scale=1, min_width=100, elem_id=element_id("import", "read"))
    # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: see ``fields._make``.
    path.do_not_save_to_config = True
    return {"path": path, "import": button}
