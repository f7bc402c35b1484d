"""The part "Bundle tools": a file, its contents, and the tools."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.bundles import BUNDLE_BUTTONS, BUNDLE_FIELDS, BUNDLE_HEADINGS

__all__ = ["create_bundles"]


def create_bundles() -> dict[str, Any]:
    """All components by name."""
    parts: dict[str, Any] = {}
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            with gr.Row(elem_classes=["pivotal-row"]):
                parts["bundle"] = _dropdown("bundle", scale=4)
                parts["bundle_refresh"] = _button("bundle_refresh", scale=1)
            parts["bundle_notice"] = gr.HTML("", elem_id=element_id("bundles", "notice"))
            parts["bundle_view"] = gr.HTML("", elem_id=element_id("bundles", "view"))
            parts["bundle_verify"] = _button("bundle_verify")
        with gr.Column(scale=2, min_width=320):
            _heading("result")
            with gr.Row(elem_classes=["pivotal-row"]):
                parts["bundle_target"] = _text("bundle_target")
                parts["bundle_overwrite"] = _checkbox("bundle_overwrite")
            _heading("names")
            parts["bundle_names"] = _dropdown("bundle_names", multiselect=True)
            parts["bundle_new_name"] = _text("bundle_new_name")
            with gr.Row():
                for name in ("bundle_rename", "bundle_remove"):
                    parts[name] = _button(name)
            _heading("more")
            parts["bundle_other"] = _dropdown("bundle_other")
            parts["bundle_merge"] = _button("bundle_merge")
            parts["bundle_files"] = _dropdown("bundle_files", multiselect=True)
            parts["bundle_pack"] = _button("bundle_pack")
            _heading("apart")
            parts["bundle_split"] = _button("bundle_split")
    return parts


def _heading(name: str) -> None:
    gr.HTML(
        f'<h3 class="pivotal-heading">{BUNDLE_HEADINGS[name]}</h3>', elem_id=element_id("bundles", f"{name}_heading")
    )


def _common(name: str) -> dict[str, Any]:
    label, help_text = BUNDLE_FIELDS[name]
    return {"label": label, "info": help_text, "elem_id": _id(name)}


def _id(name: str) -> str:
    return element_id("bundles", name.removeprefix("bundle_"))


def _dropdown(name: str, *, multiselect: bool = False, scale: int | None = None) -> Any:
    # The choices are filled in when this part is opened, and the library checks all values. Custom values must not be
    # allowed: Gradio 4 would then go on marking the place in the list that the chosen entry had before, see
    # ``choice_list.py``.
    return _volatile(
        gr.Dropdown(
            value=[] if multiselect else None,
            choices=[],
            multiselect=multiselect,
            scale=scale,
            **_common(name),
        )
    )


def _text(name: str) -> Any:
    return _volatile(gr.Textbox(value="", max_lines=1, min_width=160, **_common(name)))


def _checkbox(name: str) -> Any:
    return _volatile(gr.Checkbox(value=False, min_width=160, **_common(name)))


def _volatile(component: Any) -> Any:
    # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: see ``fields._make``.
    component.do_not_save_to_config = True
    return component


def _button(name: str, scale: int | None = None) -> Any:
    return gr.Button(BUNDLE_BUTTONS[name], min_width=100, scale=scale, elem_id=_id(name))
