"""The tab "Pivotal Tuning": puts its parts together and connects them by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from lib_pivotal.app.bundle_library import BundleLibrary
from lib_pivotal.app.session import Session
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.ui import panels
from lib_pivotal.ui.blocks.bundles import create_bundles
from lib_pivotal.ui.blocks.concepts import ROW_COUNT, row_key
from lib_pivotal.ui.blocks.import_settings import create_import
from lib_pivotal.ui.blocks.run import create_buttons, create_monitor
from lib_pivotal.ui.blocks.settings import create_settings
from lib_pivotal.ui.bundle_handlers import INPUTS, LISTS, BundleHandlers
from lib_pivotal.ui.compat import javascript
from lib_pivotal.ui.fields import CONCEPT_ROWS, input_names
from lib_pivotal.ui.handlers import VIEW, Handlers, Outputs, Values
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text import MESSAGES, TABS

__all__ = ["build_tab", "build_tab_without_host"]

logger = logging.getLogger("pivotal.tab")

Handler = Callable[[Values], Outputs]

_UPDATE_PAGE = "(text) => { pivotal.update(text); return []; }"


def build_tab(session: Session, library: BundleLibrary) -> gr.Blocks:
    """The tab in a webui that supports training.

    Args:
        session: what the training buttons act on.
        library: what the bundle tools act on.
    """
    with gr.Blocks(analytics_enabled=False) as blocks, gr.Tabs(elem_id="pivotal_tab"):
        with _part("train"), gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                parts = {**create_buttons(), **create_import(), **create_settings()}
            with gr.Column(scale=2, min_width=320):
                parts.update(create_monitor())
            _wire(parts, Handlers(session))
        _add_bundles(library)
    return blocks


def build_tab_without_host(reason: str, library: BundleLibrary) -> gr.Blocks:
    """The tab in a webui that does not support training: it says why, and has only the bundle tools.

    Args:
        reason: shown to the user.
        library: what the bundle tools act on.
    """
    with gr.Blocks(analytics_enabled=False) as blocks, gr.Tabs(elem_id="pivotal_tab"):
        with _part("train"):
            gr.HTML(panels.show_message(MESSAGES["no_host"], "bad", reason))
        _add_bundles(library)
    return blocks


def _part(name: str) -> Any:
    return gr.Tab(TABS[name], id=name, elem_id=element_id("tab", name))


def _add_bundles(library: BundleLibrary) -> None:
    with _part("bundles") as part:
        parts = create_bundles()
    handlers = BundleHandlers(library)
    listen = _Listener(parts, notice="bundle_notice")
    lists = ["bundle", "bundle_other"]
    listen.on(part.select, handlers.refresh, lists, LISTS)
    listen("bundle_refresh", handlers.refresh, lists, LISTS)
    listen.on(parts["bundle"].input, handlers.look, ["bundle"], ["bundle_notice", "bundle_view", "bundle_names"])
    listen("bundle_verify", handlers.verify, ["bundle"], ["bundle_notice"], spinner=True)
    for name in ("rename", "remove", "merge", "pack", "split"):
        listen(f"bundle_{name}", getattr(handlers, name), INPUTS, LISTS, spinner=True)


def _wire(parts: dict[str, Any], handlers: Handlers) -> None:
    fields = input_names()
    rows = [ROW_COUNT, *(row_key(row) for row in range(CONCEPT_ROWS))]
    answer = ["notice", "page_status"]
    listen = _Listener(parts)
    listen("check", handlers.check, fields, ["notice"], spinner=True)
    listen("train", handlers.train, fields, answer, spinner=True)
    listen.on(parts["preset"].input, handlers.use_preset, ["preset"], ["notice", *fields])
    for name in ("stop", "discard", "save_now", "sample_now"):
        listen(name, getattr(handlers, name), [], answer)
    listen("restore", handlers.restore, [], ["notice", *fields, *rows])
    listen("import", handlers.import_settings, ["path"], ["notice", *fields, *rows], spinner=True)
    listen("load", handlers.load, [], [*answer, *fields, *rows])
    listen("refresh", handlers.refresh, ["gallery_shows", "page_status"], list(VIEW))
    listen("add_concept", handlers.add_concept, [ROW_COUNT], rows)
    listen("remove_concept", handlers.remove_concept, [ROW_COUNT], [*fields, *rows])
    for name, method in (("send", "sendToPrompt"), ("copy", "copyWords")):
        code = f"(words) => {{ pivotal.{method}(words); return []; }}"
        parts[name].click(fn=None, inputs=[parts["words"]], outputs=[], **javascript(code))


class _Listener:
    """Connects events to handlers; values are passed by name.

    Args:
        parts: all components by name.
        notice: name of the component that shows errors.
    """

    def __init__(self, parts: dict[str, Any], notice: str = "notice") -> None:
        self._parts = parts
        self._notice = notice

    def __call__(
        self, button: str, handler: Handler, inputs: Sequence[str], outputs: Sequence[str], *, spinner: bool = False
    ) -> None:
        """Connect a click on a button."""
        event = self.on(self._parts[button].click, handler, inputs, outputs, spinner=spinner)
        if "page_status" in outputs:
            status = self._parts["page_status"]
            event.then(fn=None, inputs=[status], outputs=[], **javascript(_UPDATE_PAGE))

    def on(
        self, event: Any, handler: Handler, inputs: Sequence[str], outputs: Sequence[str], *, spinner: bool = False
    ) -> Any:
        """Connect any event; returns what Gradio returns."""
        return event(
            fn=guard(handler, inputs, outputs, self._notice),
            inputs=[self._parts[name] for name in inputs],
            outputs=[self._parts[name] for name in outputs],
            show_progress="full" if spinner else "hidden",
            queue=False,
        )


def guard(
    handler: Handler, inputs: Sequence[str], outputs: Sequence[str], notice: str = "notice"
) -> Callable[..., Any]:
    """Wrap a handler for Gradio: positional values in, one value per output back; it never raises.

    An error becomes the notice; outputs that the handler does not name stay as they are.
    """

    def call(*values: Any) -> Any:
        try:
            changed = handler(dict(zip(inputs, values, strict=True)))
        except PivotalError as error:
            changed = {notice: panels.show_error(error)}
        except Exception as error:
            logger.exception("A button on the tab failed")
            changed = {notice: panels.show_error(error)}
        result = [changed.get(name, gr.update()) for name in outputs]
        return result[0] if len(result) == 1 else result

    return call
