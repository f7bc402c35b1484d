"""Connects a comparison of a bundle's parts, in the place where it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_pivotal.app.comparison import Comparison
from lib_pivotal.ui.blocks.comparison import create_comparison
from lib_pivotal.ui.comparison_handlers import COMPARE_VIEW, ComparisonHandlers
from lib_pivotal.ui.compat import javascript
from lib_pivotal.ui.listener import Listener

__all__ = ["add_comparison"]


def add_comparison(place: str, comparison: Comparison, others: Mapping[str, Any] | None = None) -> None:
    """Create a comparison within the current column.

    Args:
        place: ``result`` compares the bundle on the result card, ``bundles`` the selected one.
        comparison: what the buttons act on.
        others: components of the place that are inputs, by name; ``bundle`` is the bundle's name.
    """
    parts = {**(others or {}), **create_comparison(place)}
    handlers = ComparisonHandlers(comparison, place)
    listen = Listener(parts, notice="compare_view")
    fields = ["bundle", "compare_prompts", "compare_checkpoint", "compare_seed", "compare_steps"]
    chosen = [name for name in fields if name in parts]
    answer, state = ["compare_view", "compare_page"], ["compare_shows", "bundle"]
    for name, inputs, outputs in (
        ("start", chosen, answer),
        ("stop", [], answer),
        ("refresh", state, list(COMPARE_VIEW)),
    ):
        button = parts[f"compare_{name}"]
        event = listen.on(button.click, getattr(handlers, name), inputs, outputs, spinner=name == "start")
        code = f"(text) => {{ pivotalWork.update('compare_{place}', text); return []; }}"
        event.then(fn=None, inputs=[parts["compare_page"]], outputs=[], **javascript(code))
    if place == "result":
        # The page's script may not see that the card disappears between two short runs.
        listen.on(parts["bundle"].change, handlers.refresh, state, list(COMPARE_VIEW))
