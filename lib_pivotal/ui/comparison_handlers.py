"""What the buttons of a comparison do; inputs and outputs are passed by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from lib_pivotal.app.comparison import Comparison
from lib_pivotal.app.comparison_plan import read_choices
from lib_pivotal.core.errors import BundleError, ConfigError, Problem
from lib_pivotal.ui import panels
from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.listener import Outputs, Values
from lib_pivotal.ui.text.comparison import COMPARE_FIELDS, COMPARE_MESSAGES, COMPARE_STATES

__all__ = ["COMPARE_VIEW", "ComparisonHandlers"]

COMPARE_VIEW = (
    "compare_view",
    "compare_gallery",
    "compare_shows",
    "compare_page",
    "compare_start",
    "compare_stop",
    "compare_checkpoint",
)
"""Outputs that show the state of the comparison."""

_KINDS = {"done": "good", "failed": "bad"}


class ComparisonHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        comparison: what the buttons act on.
        place: ``result`` or ``bundles``.
    """

    def __init__(self, comparison: Comparison, place: str) -> None:
        self._comparison = comparison
        self._place = place

    def start(self, values: Values) -> Outputs:
        """Start the comparison of the bundle that the place shows."""
        if self._place == "bundles" and not values["bundle"]:
            raise BundleError(COMPARE_MESSAGES["no_bundle"])
        try:
            self._comparison.start(read_choices(_choices(values)))
        except ConfigError as error:
            raise ConfigError([replace(item, field=self._label(item.field)) for item in error.problems]) from error
        return {"compare_view": panels.show_message(COMPARE_MESSAGES["started"]), **self._page()}

    def stop(self, _values: Values) -> Outputs:
        """End the comparison that is being made."""
        message = "stopping" if self._comparison.stop() else "nothing"
        return {"compare_view": panels.show_message(COMPARE_MESSAGES[message]), **self._page()}

    def refresh(self, values: Values) -> Outputs:
        """Show the state of the comparison; what the page shows already is not sent again.

        The result card shows nothing of another bundle than its own, nor of what its file was before.
        """
        status = self._comparison.status()
        is_shown = self._place == "bundles" or self._comparison.is_of(values["bundle"] or "")
        outputs: Outputs = {
            "compare_start": gr.update(interactive=not status["is_active"]),
            "compare_stop": gr.update(interactive=status["is_active"]),
            **_page(status),
        }
        marker = json.dumps([is_shown, *(status[name] for name in ("task_id", "state", "done"))])
        if marker == values["compare_shows"]:
            return outputs
        outputs["compare_shows"] = marker
        outputs["compare_checkpoint"] = gr.update(choices=["", *self._comparison.checkpoints()])
        outputs["compare_view"] = show_comparison(status) if is_shown and status["state"] != "idle" else ""
        images = _images(status) if is_shown else []
        outputs["compare_gallery"] = gr.update(value=images, visible=bool(images))
        return outputs

    def _label(self, field: str) -> str:
        """The label of a field in this place; a setting of a run may have the same name."""
        fields = COMPARE_FIELDS[self._place]
        return fields[field][0] if field in fields else field

    def _page(self) -> Outputs:
        return _page(self._comparison.status())


def _page(status: Mapping[str, Any]) -> Outputs:
    """What the page's script needs."""
    return {"compare_page": json.dumps({name: status[name] for name in ("state", "is_active", "task_id")})}


def _images(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The image of a comparison that has ended, with its caption; while another one is being made, none."""
    if status["is_active"] or not status["path"] or not Path(status["path"]).exists():
        return []
    columns = ", ".join(status["columns"])
    return [(status["path"], COMPARE_MESSAGES["caption"].format(bundle=status["bundle"], columns=columns))]


def _choices(values: Values) -> dict[str, Any]:
    """The fields of the place as plain values; empty ones are left out."""
    chosen: dict[str, Any] = {}
    for name in ("bundle", "compare_checkpoint"):
        if values.get(name):
            chosen[name.removeprefix("compare_")] = values[name]
    lines = [line.strip() for line in (values.get("compare_prompts") or "").splitlines() if line.strip()]
    if lines:
        chosen["prompts"] = lines
    for name in ("seed", "steps"):
        text = (values.get(f"compare_{name}") or "").strip()
        if text and not (text.isascii() and text.isdecimal() and len(text) < 12):
            raise ConfigError([Problem(name, "error", "It must be an integer.", "Correct it, or leave it empty.")])
        if text:
            chosen[name] = int(text)
    return chosen


def show_comparison(status: Mapping[str, Any]) -> str:
    """State, failure and path of a comparison."""
    state = status["state"]
    lines = [COMPARE_STATES[state].format(**status)]
    if status["message"]:
        lines.append(f"{status['message']} {status['hint']}")
    if status["left_out"]:
        lines.append(COMPARE_MESSAGES["left_out"].format(count=status["left_out"]))
    shown = "".join(f"<div>{escape_html(line)}</div>" for line in lines)
    if status["path"]:
        path = COMPARE_MESSAGES["saved"].format(path=status["path"])
        shown += f'<div class="pivotal-path">{escape_html(path)}</div>'
    return f'<div class="pivotal-box pivotal-{_KINDS.get(state, "plain")}" role="status">{shown}</div>'
