"""Connects the events of components to handlers; values are passed by name, and no handler raises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from lib_pivotal.core.errors import PivotalError
from lib_pivotal.ui import panels
from lib_pivotal.ui.compat import javascript

__all__ = ["Handler", "Listener", "Outputs", "Values", "guard"]

logger = logging.getLogger("pivotal.tab")

Values = Mapping[str, Any]
"""Values of the inputs of a handler, by the name of their component."""
Outputs = dict[str, Any]
"""New values of components, by name; the others stay as they are."""
Handler = Callable[[Values], Outputs]

_UPDATE_PAGE = "(text) => { pivotal.update(text); return []; }"


class Listener:
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
    ) -> Any:
        """Connect a click on a button; returns what Gradio returns."""
        event = self.on(self._parts[button].click, handler, inputs, outputs, spinner=spinner)
        if "page_status" in outputs:
            status = self._parts["page_status"]
            event.then(fn=None, inputs=[status], outputs=[], **javascript(_UPDATE_PAGE))
        return event

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
