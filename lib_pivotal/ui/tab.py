"""The tab "Pivotal Tuning": its parts, put together and wired by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from lib_pivotal.app.session import Session
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.ui import panels
from lib_pivotal.ui.blocks.concepts import ROW_COUNT, row_key
from lib_pivotal.ui.blocks.run import create_buttons, create_monitor
from lib_pivotal.ui.blocks.settings import create_settings
from lib_pivotal.ui.compat import javascript, unchanged
from lib_pivotal.ui.fields import CONCEPT_ROWS, input_names
from lib_pivotal.ui.handlers import VIEW, Handlers, Outputs, Values
from lib_pivotal.ui.text import MESSAGES

__all__ = ["build_tab", "build_tab_without_host"]

logger = logging.getLogger("pivotal.tab")

Handler = Callable[[Values], Outputs]

_TELL_SCRIPT = "(text) => { pivotal.update(text); return []; }"


def build_tab(session: Session) -> gr.Blocks:
    """The tab of a webui that can be trained in.

    Args:
        session: what its buttons act on.
    """
    with gr.Blocks(analytics_enabled=False) as blocks, gr.Row(equal_height=False, elem_id="pivotal_tab"):
        with gr.Column(scale=3, min_width=320):
            parts = {**create_buttons(), **create_settings()}
        with gr.Column(scale=2, min_width=320):
            parts.update(create_monitor())
        _wire(parts, Handlers(session))
    return blocks


def build_tab_without_host(reason: str) -> gr.Blocks:
    """A tab that only says why there is nothing to see."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.HTML(panels.show_message(MESSAGES["no_host"], "bad", reason))
    return blocks


def _wire(parts: dict[str, Any], handlers: Handlers) -> None:
    fields = input_names()
    rows = [ROW_COUNT, *(row_key(row) for row in range(CONCEPT_ROWS))]
    answer = ["notice", "page_status"]
    listen = _Listener(parts)
    listen("check", handlers.check, fields, ["notice"], spinner=True)
    listen("train", handlers.train, fields, answer, spinner=True)
    for name in ("stop", "discard", "save_now", "sample_now"):
        listen(name, getattr(handlers, name), [], answer)
    listen("restore", handlers.restore, [], ["notice", *fields, *rows])
    listen("load", handlers.load, [], [*answer, *fields, *rows])
    listen("refresh", handlers.refresh, ["gallery_shows", "page_status"], list(VIEW))
    listen("add_concept", handlers.add_concept, [ROW_COUNT], rows)
    listen("remove_concept", handlers.remove_concept, [ROW_COUNT], [*fields, *rows])
    for name, method in (("send", "sendToPrompt"), ("copy", "copyWords")):
        code = f"(words) => {{ pivotal.{method}(words); return []; }}"
        parts[name].click(fn=None, inputs=[parts["words"]], outputs=[], **javascript(code))


class _Listener:
    """Connects buttons with handlers; gives and takes values by name.

    Args:
        parts: all components by name.
    """

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts

    def __call__(
        self, button: str, handler: Handler, inputs: Sequence[str], outputs: Sequence[str], *, spinner: bool = False
    ) -> None:
        event = self._parts[button].click(
            fn=guard(handler, inputs, outputs),
            inputs=[self._parts[name] for name in inputs],
            outputs=[self._parts[name] for name in outputs],
            show_progress="full" if spinner else "hidden",
            queue=False,
        )
        if "page_status" in outputs:
            status = self._parts["page_status"]
            event.then(fn=None, inputs=[status], outputs=[], **javascript(_TELL_SCRIPT))


def guard(handler: Handler, inputs: Sequence[str], outputs: Sequence[str]) -> Callable[..., Any]:
    """The handler as Gradio calls it: positional values in, one value per output back, whatever happens.

    An error becomes the notice; outputs that the handler does not name stay as they are.
    """

    def call(*values: Any) -> Any:
        try:
            changed = handler(dict(zip(inputs, values, strict=True)))
        except PivotalError as error:
            changed = {"notice": panels.show_error(error)}
        except Exception as error:
            logger.exception("A button of the tab failed")
            changed = {"notice": panels.show_error(error)}
        result = [changed.get(name, unchanged()) for name in outputs]
        return result[0] if len(result) == 1 else result

    return call
