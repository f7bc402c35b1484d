"""Connects the events of components to handlers; values are passed by name, and no handler raises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from lib_pivotal.core.errors import PivotalError
from lib_pivotal.ui import panels
from lib_pivotal.ui.compat import javascript
from lib_pivotal.ui.ids import element_id

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

    def on_choice(self, name: str, handler: Handler, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Connect the choice of an entry of a list; the handler gets to know the last one.

        Host: gradio 3.41.2 and 4.40.0, the page's script: an event is dropped while the answer to the one before is
            on its way. So the handler is asked again if another entry is chosen by then.

        Args:
            name: of the list.
            handler: gets the list's value, too.
            inputs: names, including that of the list.
            outputs: names.
        """
        mark = f"{name}_answered"
        answered = gr.Textbox(value="", visible=False, label=mark, elem_id=element_id(name, "answered"))
        # Host: modules/ui_loadsave.py, A1111 1.6.1-1.10.1: see ``fields._make``.
        answered.do_not_save_to_config = True
        self._parts[mark] = answered

        def answer(values: Values) -> Outputs:
            return {**handler(values), mark: values[name] or ""}

        def answer_again(values: Values) -> Outputs:
            return {} if (values[name] or "") == values[mark] else answer(values)

        event = self.on(self._parts[name].input, answer, inputs, [*outputs, mark])
        self.on(event.then, answer_again, [*inputs, mark], [*outputs, mark])


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
