"""The part in which runs are set up, started and watched: creates its blocks and connects them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.app.comparison import comparison_for
from lib_pivotal.app.session import Session
from lib_pivotal.ui.blocks.concepts import ROW_COUNT, row_key
from lib_pivotal.ui.blocks.import_settings import create_import
from lib_pivotal.ui.blocks.run import create_buttons, create_monitor
from lib_pivotal.ui.blocks.settings import create_settings
from lib_pivotal.ui.comparison_part import add_comparison
from lib_pivotal.ui.compat import javascript
from lib_pivotal.ui.fields import CONCEPT_ROWS, input_names
from lib_pivotal.ui.handlers import VIEW, Handlers
from lib_pivotal.ui.listener import Listener

__all__ = ["add_training"]


def add_training(session: Session) -> None:
    """Create the part within the current tab.

    Args:
        session: what its buttons act on.
    """
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            parts = {**create_buttons(), **create_import(), **create_settings()}
        with gr.Column(scale=2, min_width=320):
            parts.update(create_monitor())
            with parts["card"]:
                add_comparison("result", comparison_for(session))
    _wire(parts, Handlers(session))


def _wire(parts: dict[str, Any], handlers: Handlers) -> None:
    fields = input_names()
    rows = [ROW_COUNT, *(row_key(row) for row in range(CONCEPT_ROWS))]
    answer = ["notice", "page_status"]
    listen = Listener(parts)
    listen("check", handlers.check, fields, ["notice"], spinner=True)
    listen("train", handlers.train, fields, answer, spinner=True)
    listen.on(parts["preset"].input, handlers.use_preset, ["preset"], ["notice", *fields])
    for name in ("stop", "discard", "save_now", "sample_now"):
        listen(name, getattr(handlers, name), [], answer)
    listen("restore", handlers.restore, [], ["notice", *fields, *rows])
    listen("import", handlers.import_settings, ["path"], ["notice", *fields, *rows], spinner=True)
    listen("load", handlers.load, [], [*answer, *fields, *rows])
    listen("refresh", handlers.refresh, ["gallery_shows", "page_status", "view_shows"], list(VIEW))
    listen("add_concept", handlers.add_concept, [ROW_COUNT], rows)
    listen("remove_concept", handlers.remove_concept, [ROW_COUNT], [*fields, *rows])
    for name, method in (("send", "sendToPrompt"), ("copy", "copyWords")):
        code = f"(words) => {{ pivotal.{method}(words); return []; }}"
        parts[name].click(fn=None, inputs=[parts["words"]], outputs=[], **javascript(code))
