"""The presets, and the settings as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.presets import PRESET_BUTTONS, PRESET_FIELDS, PRESET_HEADING
from lib_pivotal.ui.text.training import LABELS

__all__ = ["create_presets"]


def create_presets(titles: Sequence[str]) -> dict[str, Any]:
    """All components by name.

    Args:
        titles: of the presets that can be chosen.
    """
    with gr.Row(elem_classes=["pivotal-row"]):
        # No custom values, see ``choice_list.py``.
        preset = gr.Dropdown(
            value=None,
            choices=list(titles),
            scale=4,
            label=LABELS["preset"],
            info=LABELS["preset_help"],
            elem_id=element_id("run", "preset"),
        )
        parts: dict[str, Any] = {"preset": preset, "presets_refresh": _button("presets_refresh", scale=1)}
    with gr.Accordion(PRESET_HEADING, open=False, elem_id=element_id("presets", "more")):
        with gr.Row(elem_classes=["pivotal-row"]):
            parts["preset_name"] = _text("preset_name", lines=1, scale=3)
            for name in ("preset_save", "preset_replace", "preset_delete", "preset_delete_sure"):
                parts[name] = _button(name, visible=name in ("preset_save", "preset_delete"))
        parts["settings_text"] = _text("settings_text", lines=8)
        with gr.Row():
            for name in ("settings_export", "settings_use"):
                parts[name] = _button(name)
    parts["preset_asked"] = gr.Textbox(
        value="", visible=False, label="preset_asked", elem_id=element_id("presets", "asked")
    )
    for name in ("preset", "preset_name", "preset_asked", "settings_text"):
        # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: see ``fields._make``.
        parts[name].do_not_save_to_config = True
    return parts


def _text(name: str, *, lines: int, scale: int | None = None) -> Any:
    label, help_text = PRESET_FIELDS[name]
    return gr.Textbox(
        value="",
        lines=lines,
        max_lines=lines,
        scale=scale,
        label=label,
        info=help_text,
        show_copy_button=lines > 1,
        elem_id=element_id("presets", name),
    )


def _button(name: str, *, visible: bool = True, scale: int | None = None) -> Any:
    return gr.Button(
        PRESET_BUTTONS[name], min_width=100, scale=scale, visible=visible, elem_id=element_id("presets", name)
    )
