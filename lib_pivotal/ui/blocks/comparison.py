"""The comparison of a bundle's parts: on the result card of a run, and in the bundle tools."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.comparison import COMPARE_BUTTONS, COMPARE_FIELDS, COMPARE_MESSAGES

__all__ = ["comparison_id", "create_comparison"]


def comparison_id(place: str, name: str) -> str:
    """Id of an element of the comparison in a place: ``result`` or ``bundles``."""
    return element_id(f"compare_{place}", name)


def create_comparison(place: str) -> dict[str, Any]:
    """All components by name, each with the prefix ``compare_``.

    Args:
        place: ``result`` or ``bundles``; the settings are only in the second one.
    """
    parts: dict[str, Any] = {}
    with gr.Row(elem_classes=["pivotal-row"]):
        parts["start"] = _button(place, "start", interactive=True)
        parts["stop"] = _button(place, "stop", interactive=False)
    if place == "result":
        parts["checkpoint"] = _checkpoint(place)
    else:
        with gr.Accordion(COMPARE_MESSAGES["heading"], open=False, elem_id=comparison_id(place, "more")):
            parts["prompts"] = gr.Textbox(value="", lines=3, **_common(place, "prompts"))
            parts["checkpoint"] = _checkpoint(place)
            with gr.Row(elem_classes=["pivotal-row"]):
                for name in ("seed", "steps"):
                    parts[name] = gr.Textbox(value="", max_lines=1, min_width=120, **_common(place, name))
    parts["view"] = gr.HTML("", elem_id=comparison_id(place, "view"))
    # The webui's own script puts its progress bar into this element.
    inner = f'<div class="pivotal-progress"><div id="{comparison_id(place, "bar")}"></div></div>'
    gr.HTML(inner, elem_id=comparison_id(place, "progress"))
    parts["gallery"] = gr.Gallery(
        label=COMPARE_FIELDS[place]["gallery"][0],
        columns=1,
        object_fit="contain",
        visible=False,
        elem_id=comparison_id(place, "gallery"),
    )
    parts["shows"] = gr.Textbox(value="", visible=False, label=f"{place}_shows", elem_id=comparison_id(place, "shows"))
    parts["page"] = gr.Textbox(value="", visible=False, label=f"{place}_page", elem_id=comparison_id(place, "page"))
    parts["refresh"] = gr.Button("refresh", visible=False, elem_id=comparison_id(place, "refresh"))
    for component in parts.values():
        # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: see ``fields._make``.
        component.do_not_save_to_config = True
    return {f"compare_{name}": component for name, component in parts.items()}


def _button(place: str, name: str, *, interactive: bool) -> Any:
    return gr.Button(COMPARE_BUTTONS[name], min_width=100, interactive=interactive, elem_id=comparison_id(place, name))


def _checkpoint(place: str) -> Any:
    # The choices are filled in when the place is shown, and the application checks the value. No custom values, see
    # ``choice_list.py``.
    return gr.Dropdown(value=None, choices=[], **_common(place, "checkpoint"))


def _common(place: str, name: str) -> dict[str, Any]:
    label, help_text = COMPARE_FIELDS[place][name]
    return {"label": label, "info": help_text, "elem_id": comparison_id(place, name)}
