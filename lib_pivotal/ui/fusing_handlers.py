"""What the buttons of fusing do; inputs and outputs are passed by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from lib_pivotal.app.bundle_library import BundleLibrary
from lib_pivotal.app.fusing import Fusing, read_fuse_choices
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.ui import panels
from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.listener import Outputs, Values
from lib_pivotal.ui.text.fusing import FUSE_FIELDS, FUSE_MESSAGES, FUSE_STATES

__all__ = ["FUSE_INPUTS", "FUSE_VIEW", "FusingHandlers"]

FUSE_INPUTS = ("bundle", "bundle_target", "bundle_overwrite", "fuse_others", "fuse_rank", "fuse_data")
"""Inputs of the start."""
FUSE_VIEW = ("fuse_view", "fuse_shows", "fuse_page", "fuse_start", "fuse_stop", "fuse_others", "bundle", "bundle_other")
"""Outputs that show the state."""

_KINDS = {"done": "good", "failed": "bad"}
_LABELS = {"bundles": "others", "rank": "rank", "data_folder": "data"}
"""Field of the request → field of the page."""


class FusingHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        fusing: what the buttons act on.
        library: lists the bundles.
    """

    def __init__(self, fusing: Fusing, library: BundleLibrary) -> None:
        self._fusing = fusing
        self._library = library

    def start(self, values: Values) -> Outputs:
        """Start to fuse the selected bundle with the others."""
        try:
            self._fusing.start(read_fuse_choices(_choices(values)))
        except ConfigError as error:
            raise ConfigError([replace(item, field=_label(item.field)) for item in error.problems]) from error
        return {"fuse_view": panels.show_message(FUSE_MESSAGES["started"]), **_page(self._fusing.status())}

    def stop(self, _values: Values) -> Outputs:
        """End it without a file."""
        message = "stopping" if self._fusing.stop() else "nothing"
        return {"fuse_view": panels.show_message(FUSE_MESSAGES[message]), **_page(self._fusing.status())}

    def refresh(self, values: Values) -> Outputs:
        """Show the state; what the page shows already is not sent again."""
        status = self._fusing.status()
        outputs: Outputs = {
            "fuse_start": gr.update(interactive=not status["is_active"]),
            "fuse_stop": gr.update(interactive=status["is_active"]),
            **_page(status),
        }
        marker = json.dumps([status[name] for name in ("task_id", "state", "stage", "done")])
        if marker == values["fuse_shows"]:
            return outputs
        outputs["fuse_shows"] = marker
        if status["state"] != "idle":
            outputs["fuse_view"] = show_fusing(status)
        if status["state"] == "done":
            # The new bundle can be selected.
            for name in ("fuse_others", "bundle", "bundle_other"):
                outputs[name] = gr.update(choices=self._library.bundles())
        return outputs


def _choices(values: Values) -> dict[str, Any]:
    """The fields of the page as the body of a request."""
    names = [values["bundle"] or "", *(values["fuse_others"] or [])]
    rank = (values["fuse_rank"] or "").strip()
    if rank and not (rank.isascii() and rank.isdecimal() and len(rank) < 5):
        raise ConfigError([Problem("rank", "error", "It must be an integer.", "Correct it, or leave it empty.")])
    return {
        "bundles": list(dict.fromkeys(name for name in names if name)),
        "name": values["bundle_target"] or "",
        "overwrite": bool(values["bundle_overwrite"]),
        "rank": int(rank or 0),
        "data_folder": values["fuse_data"] or "",
    }


def _label(field: str) -> str:
    return FUSE_FIELDS[_LABELS[field]][0] if field in _LABELS else field


def _page(status: Mapping[str, Any]) -> Outputs:
    """What the page's script needs."""
    return {"fuse_page": json.dumps({name: status[name] for name in ("state", "is_active", "task_id")})}


def show_fusing(status: Mapping[str, Any]) -> str:
    """State, failure, path and report."""
    state = status["state"]
    lines = [FUSE_STATES[state].format(**{**status, "bundles": ", ".join(status["bundles"])})]
    if status["message"]:
        lines.append(f"{status['message']} {status['hint']}")
    shown = "".join(f"<div>{escape_html(line)}</div>" for line in lines)
    if status["path"]:
        shown += f'<div class="pivotal-path">{escape_html(FUSE_MESSAGES["saved"].format(path=status["path"]))}</div>'
    notes = "".join(f"<li>{escape_html(text)}</li>" for text in status["problems"])
    shown += f'<ul class="pivotal-warnings">{notes}</ul>' if notes else ""
    shown += _table(status["report"]) if status["report"] else ""
    return f'<div class="pivotal-box pivotal-{_KINDS.get(state, "plain")}" role="status">{shown}</div>'


def _table(report: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape_html(title)}</th>" for title in FUSE_MESSAGES["columns"])
    rows = ""
    for item in report:
        errors = item["errors"]["all"]
        cells = (item["bundle"], f"{errors['fused']:.0%}", f"{errors['plain_sum']:.0%}")
        rows += "<tr>" + "".join(f"<td>{escape_html(cell)}</td>" for cell in cells) + "</tr>"
    caption = f"<caption>{escape_html(FUSE_MESSAGES['table'])}</caption>"
    return f'<table class="pivotal-table">{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
