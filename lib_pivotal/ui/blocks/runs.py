"""The part "Runs": the queue, past runs, and what can be done with the selected one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gradio as gr

from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.runs_view import show_may_change
from lib_pivotal.ui.text.runs import QUEUE_BUTTONS, RUN_BUTTONS, RUN_FIELDS, RUN_HEADINGS

__all__ = ["create_runs"]

_SURE = ("run_delete_sure", "run_delete_steps_sure", "run_choose_sure")
"""Buttons that appear when a question is asked."""


def create_runs(may_change: Iterable[str]) -> dict[str, Any]:
    """All components by name.

    Args:
        may_change: settings that may differ when a run continues.
    """
    parts: dict[str, Any] = {"runs_notice": gr.HTML("", elem_id=element_id("runs", "notice"))}
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            _create_list(parts)
        with gr.Column(scale=2, min_width=320):
            _create_run(parts, may_change)
    parts["run_comparison"] = gr.HTML("", elem_id=element_id("runs", "comparison"))
    # Set and pressed by the page's script.
    parts["runs_name"] = gr.Textbox(value="", visible=False, label="runs_name", elem_id=element_id("runs", "name"))
    parts["run_words"] = gr.Textbox(value="", visible=False, label="run_words", elem_id=element_id("runs", "words"))
    parts["runs_count"] = gr.Number(value=0, visible=False, label="runs_count", elem_id=element_id("runs", "count"))
    parts["runs_open"] = gr.Button("open", visible=False, elem_id=element_id("runs", "open"))
    for name in (*RUN_FIELDS, "runs_name", "runs_count", "run_words"):
        # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: see ``fields._make``.
        parts[name].do_not_save_to_config = True
    return parts


def _create_list(parts: dict[str, Any]) -> None:
    _heading("queue")
    parts["queue_view"] = gr.HTML("", elem_id=element_id("queue", "view"))
    with gr.Row(elem_classes=["pivotal-buttons"]):
        for name in ("queue_start", "queue_stop", "queue_refresh"):
            parts[name] = _button(name)
    with gr.Row(elem_classes=["pivotal-row"]):
        parts["queue_item"] = _dropdown("queue_item")
        for name in ("queue_up", "queue_down", "queue_remove"):
            parts[name] = _button(name)
    _heading("list")
    parts["runs_list"] = gr.HTML("", elem_id=element_id("runs", "list"))
    with gr.Row(elem_classes=["pivotal-buttons"]):
        for name in ("runs_refresh", "runs_more"):
            parts[name] = _button(name)


def _create_run(parts: dict[str, Any], may_change: Iterable[str]) -> None:
    _heading("run")
    parts["run"] = _dropdown("run")
    parts["run_view"] = gr.HTML("", elem_id=element_id("runs", "view"))
    with gr.Row(elem_classes=["pivotal-buttons"]):
        for name in ("run_use", "run_load", "run_weights"):
            parts[name] = _button(name)
    with gr.Row(elem_classes=["pivotal-buttons"]):
        for name in ("run_delete", "run_delete_sure", "run_delete_steps", "run_delete_steps_sure"):
            parts[name] = _button(name)
    _heading("continue")
    gr.HTML(show_may_change(may_change), elem_id=element_id("runs", "may_change"))
    label, help_text = RUN_FIELDS["run_steps"]
    with gr.Row(elem_classes=["pivotal-row"]):
        parts["run_steps"] = gr.Number(value=0, label=label, info=help_text, elem_id=element_id("runs", "steps"))
        label, help_text = RUN_FIELDS["run_use_fields"]
        parts["run_use_fields"] = gr.Checkbox(
            value=False, label=label, info=help_text, elem_id=element_id("runs", "use_fields")
        )
    with gr.Row(elem_classes=["pivotal-buttons"]):
        for name in ("run_continue", "run_queue"):
            parts[name] = _button(name)
    _heading("step")
    parts["run_steps_view"] = gr.HTML("", elem_id=element_id("runs", "steps_view"))
    with gr.Row(elem_classes=["pivotal-row"]):
        parts["run_step"] = _dropdown("run_step")
        for name in ("run_choose", "run_choose_sure"):
            parts[name] = _button(name)
    _heading("compare")
    with gr.Row(elem_classes=["pivotal-row"]):
        parts["run_other"] = _dropdown("run_other")
        parts["run_compare"] = _button("run_compare")


def _heading(name: str) -> None:
    gr.HTML(f'<h3 class="pivotal-heading">{RUN_HEADINGS[name]}</h3>', elem_id=element_id("runs", f"{name}_heading"))


def _dropdown(name: str) -> Any:
    label, help_text = RUN_FIELDS[name]
    # No custom values, see ``choice_list.py``.
    return gr.Dropdown(value=None, choices=[], label=label, info=help_text, elem_id=element_id("runs", name))


def _button(name: str) -> Any:
    block = "queue" if name in QUEUE_BUTTONS else "runs"
    text = {**RUN_BUTTONS, **QUEUE_BUTTONS}[name]
    return gr.Button(text, min_width=100, visible=name not in _SURE, elem_id=element_id(block, name.partition("_")[2]))
