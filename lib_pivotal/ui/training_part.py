"""The part in which runs are set up, started and watched: creates its blocks and connects them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.app.comparison import comparison_for
from lib_pivotal.app.session import Session
from lib_pivotal.ui.blocks.first_visit import create_first_visit
from lib_pivotal.ui.blocks.import_settings import create_import
from lib_pivotal.ui.blocks.presets import create_presets
from lib_pivotal.ui.blocks.run import create_buttons, create_monitor
from lib_pivotal.ui.blocks.settings import create_settings
from lib_pivotal.ui.comparison_part import add_comparison
from lib_pivotal.ui.compat import javascript
from lib_pivotal.ui.concept_report import REPORT
from lib_pivotal.ui.concept_rows import CONCEPT_INPUTS
from lib_pivotal.ui.concepts_part import connect_concepts, tell_report
from lib_pivotal.ui.fields import input_names
from lib_pivotal.ui.handlers import VIEW, Handlers
from lib_pivotal.ui.length_handlers import FACTORS, LengthHandlers
from lib_pivotal.ui.listener import Listener
from lib_pivotal.ui.preset_handlers import PRESET_OUTPUTS, PresetHandlers
from lib_pivotal.ui.queue_handlers import QueueHandlers

__all__ = ["add_training"]


def add_training(session: Session) -> dict[str, Any]:
    """Create the part within the current tab; returns its components by name.

    Args:
        session: what its buttons act on.

    Returns:
        Its components by name; those of the settings are also used by other parts.
    """
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            titles = [preset.title for preset in session.presets.all()[0]]
            parts = {**create_buttons(), **create_first_visit(), **create_presets(titles)}
            parts.update({**create_import(), **create_settings()})
        with gr.Column(scale=2, min_width=320):
            parts.update(create_monitor())
            with parts["card"]:
                # Of the bundle on the card, even if another run has been started from elsewhere since.
                add_comparison("result", comparison_for(session), {"bundle": parts["card_bundle"]})
    _wire(parts, Handlers(session))
    _wire_queue_and_length(parts, QueueHandlers(session), LengthHandlers(session))
    _wire_presets(parts, PresetHandlers(session))
    connect_concepts(parts, session)
    return parts


def _wire(parts: dict[str, Any], handlers: Handlers) -> None:
    fields = input_names()
    answer = ["notice", "page_status"]
    listen = Listener(parts)
    for event in (
        listen("check", handlers.check, fields, ["notice", REPORT], spinner=True),
        listen("train", handlers.train, fields, [*answer, REPORT], spinner=True),
    ):
        tell_report(event, parts)
    listen.on_choice(
        "preset", handlers.use_preset, ["preset", *CONCEPT_INPUTS], ["notice", "preset_delete_sure", *fields]
    )
    for name in ("stop", "discard", "save_now", "sample_now"):
        listen(name, getattr(handlers, name), [], answer)
    listen("restore", handlers.restore, [], ["notice", *fields])
    listen("import", handlers.import_settings, ["path"], ["notice", *fields], spinner=True)
    listen("load", handlers.load, [], [*answer, "first_visit", *fields])
    listen("samples", handlers.try_samples, [], ["notice", *fields], spinner=True)
    listen("refresh", handlers.refresh, ["gallery_shows", "page_status", "view_shows"], list(VIEW))
    for name, method in (("send", "sendToPrompt"), ("copy", "copyWords")):
        code = f"(words) => {{ pivotal.{method}(words); return []; }}"
        parts[name].click(fn=None, inputs=[parts["words"]], outputs=[], **javascript(code))


def _wire_queue_and_length(parts: dict[str, Any], queue: QueueHandlers, length: LengthHandlers) -> None:
    fields = input_names()
    listen = Listener(parts)
    listen("queue_add", queue.add, fields, ["notice"], spinner=True)
    event = listen("length_refresh", length.refresh, fields, ["length", REPORT])
    tell_report(event, parts)
    event.then(fn=None, inputs=[], outputs=[], **javascript("() => { pivotalLength.answered(); return []; }"))
    for name, factor in FACTORS.items():
        listen(name, length.fill_in(factor), fields, ["notice", "steps", "length"])
    # Also when another button changes a field; the page's script waits until all of them have changed.
    for name in fields:
        parts[name].change(
            fn=None, inputs=[], outputs=[], **javascript("() => { pivotalLength.changed(); return []; }")
        )


def _wire_presets(parts: dict[str, Any], presets: PresetHandlers) -> None:
    fields = input_names()
    listen = Listener(parts)
    listen("presets_refresh", presets.refresh, [], ["notice", "preset"])
    for name in ("save", "replace"):
        listen(f"preset_{name}", getattr(presets, name), ["preset_name", "preset_asked", *fields], PRESET_OUTPUTS)
    for name in ("delete", "delete_sure"):
        listen(f"preset_{name}", getattr(presets, name), ["preset", "preset_asked"], PRESET_OUTPUTS)
    listen("settings_export", presets.export, fields, ["notice", "settings_text"])
    listen("settings_use", presets.use_text, ["settings_text"], ["notice", *fields])
