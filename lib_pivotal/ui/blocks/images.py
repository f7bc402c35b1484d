"""The part "Data set": the images, what is known about them, and edits of their captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.images import (
    ALL_IMAGES,
    ANY_CONCEPT,
    IMAGE_ACTIONS,
    IMAGE_BUTTONS,
    IMAGE_FIELDS,
    IMAGE_HEADINGS,
    IMAGE_MARKS,
    IMAGE_MESSAGES,
)

__all__ = ["PREFIX", "create_images"]

PREFIX = "browser_"
"""Begins the names of the components of this part."""

_HIDDEN = ("state", "action", "ticks", "job", "caption_sent")


def create_images(programs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """All components by name.

    Args:
        programs: those that can write captions, each with the size of its download.
    """
    parts: dict[str, Any] = {}
    with gr.Row():
        _add(parts, "look", _button("look", variant="primary"))
        _add(parts, "rescan", _button("rescan"))
    _html(parts, "notice", f'<div class="pivotal-hint">{IMAGE_MESSAGES["first"]}</div>')
    _create_filter(parts)
    _create_details(parts)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=200):
            _html(parts, "tags")
        with gr.Column(scale=4, min_width=320):
            _html(parts, "cards")
    _create_edits(parts)
    with gr.Accordion(IMAGE_HEADINGS["undo"], open=False, elem_id=_id("undo_part")):
        _html(parts, "history")
    _create_core_tags(parts)
    if programs:
        _create_programs(parts, programs)
    for name in _HIDDEN:
        _add(parts, name, _volatile(gr.Textbox("", visible=False, label=PREFIX + name, elem_id=_id(name))))
    for name in ("act", "poll"):
        _add(parts, name, gr.Button(PREFIX + name, visible=False, elem_id=_id(name)))
    return parts


def _create_filter(parts: dict[str, Any]) -> None:
    with gr.Row(elem_classes=["pivotal-row"]):
        marks = [ALL_IMAGES, *IMAGE_MARKS.values()]
        _add(parts, "mark", _dropdown("mark", marks, ALL_IMAGES))
        # The concepts are known once the images are read.
        _add(parts, "concept", _dropdown("concept", [ANY_CONCEPT], ANY_CONCEPT))
        _add(parts, "tag", _text("tag"))
        _add(parts, "text", _text("text"))
        _add(parts, "filter", _button("filter"))
        _add(parts, "clear", _button("clear"))


def _create_details(parts: dict[str, Any]) -> None:
    with gr.Group(visible=False, elem_id=_id("opened"), elem_classes=["pivotal-card"]) as group:
        _html(parts, "details")
        _add(parts, "caption", _text("caption", lines=3))
        with gr.Row():
            _add(parts, "save", _button("save", variant="primary"))
            _add(parts, "close", _button("close"))
        _html(parts, "draws")
    _add(parts, "opened", group)


def _create_edits(parts: dict[str, Any]) -> None:
    with gr.Accordion(IMAGE_HEADINGS["edit"], open=False, elem_id=_id("edit_part")):
        with gr.Row(elem_classes=["pivotal-row"]):
            actions = list(IMAGE_ACTIONS.values())
            _add(parts, "edit", _dropdown("action", actions, actions[0], name="edit"))
            for name in ("edit_tags", "replacement"):
                _add(parts, name, _text(name))
        with gr.Row(elem_classes=["pivotal-row"]):
            for name in ("is_pattern", "writes_files"):
                _add(parts, name, _checkbox(name))
        with gr.Row():
            _add(parts, "preview", _button("preview"))
            _add(parts, "apply", _button("apply", variant="primary"))
        _html(parts, "plan")


def _create_core_tags(parts: dict[str, Any]) -> None:
    with gr.Accordion(IMAGE_HEADINGS["tags"], open=False, elem_id=_id("tags_part")):
        _add(parts, "find_tags", _button("find_tags"))
        _html(parts, "core_tags")
        _add(parts, "replaces_text", _checkbox("replaces_text"))
        with gr.Row():
            _add(parts, "update_tags", _button("update_tags"))
            _add(parts, "use_tags", _button("use_tags", variant="primary"))


def _create_programs(parts: dict[str, Any], programs: Sequence[tuple[str, str]]) -> None:
    names = [name for name, _ in programs]
    notes = [IMAGE_MESSAGES["download"].format(program=name, size=size) for name, size in programs]
    with gr.Accordion(IMAGE_HEADINGS["missing"], open=False, elem_id=_id("programs_part")):
        with gr.Row(elem_classes=["pivotal-row"]):
            _add(parts, "program", _dropdown("program", names, names[0]))
            _add(parts, "appends", _checkbox("appends"))
        _html(parts, "program_note", "".join(f'<div class="pivotal-hint">{note}</div>' for note in notes))
        with gr.Row():
            _add(parts, "write", _button("caption", name="write"))
            _add(parts, "stop_captions", _button("stop_captions", variant="stop"))
        _html(parts, "progress")


def _add(parts: dict[str, Any], name: str, component: Any) -> None:
    parts[PREFIX + name] = component


def _html(parts: dict[str, Any], name: str, value: str = "") -> None:
    _add(parts, name, gr.HTML(value, elem_id=_id(name)))


def _id(name: str) -> str:
    return element_id("browser", name)


def _common(field: str, name: str) -> dict[str, Any]:
    label, help_text = IMAGE_FIELDS[field]
    return {"label": label, "info": help_text, "elem_id": _id(name or field)}


def _button(text: str, variant: str = "secondary", name: str = "") -> Any:
    return gr.Button(IMAGE_BUTTONS[text], variant=variant, min_width=100, elem_id=_id(name or text))


def _dropdown(field: str, choices: Sequence[str], value: str, name: str = "") -> Any:
    return _volatile(gr.Dropdown(value=value, choices=list(choices), **_common(field, name)))


def _text(field: str, lines: int = 1) -> Any:
    most = 12 if lines > 1 else 1
    return _volatile(gr.Textbox(value="", lines=lines, max_lines=most, min_width=140, **_common(field, "")))


def _checkbox(field: str) -> Any:
    return _volatile(gr.Checkbox(value=False, min_width=160, **_common(field, "")))


def _volatile(component: Any) -> Any:
    # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: see ``fields._make``.
    component.do_not_save_to_config = True
    return component
