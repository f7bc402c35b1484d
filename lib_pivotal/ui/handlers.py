"""What the training buttons do; inputs and outputs are passed by name."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from lib_pivotal.app.session import Busy, Session
from lib_pivotal.app.settings_sources import import_from, settings_of_samples
from lib_pivotal.core.errors import ConfigError, PivotalError
from lib_pivotal.ui import panels
from lib_pivotal.ui.chart import show_chart
from lib_pivotal.ui.concept_report import REPORT, report_concepts
from lib_pivotal.ui.concept_rows import CONCEPT_INPUTS, CONCEPTS
from lib_pivotal.ui.fields import in_rows, read_config, show_config, show_preset
from lib_pivotal.ui.listener import Outputs, Values
from lib_pivotal.ui.sample_grid import arrange_samples
from lib_pivotal.ui.text.training import MESSAGES

__all__ = ["VIEW", "Handlers", "page_status"]

VIEW = (
    "notice",
    "status",
    "warnings",
    "plot",
    "gallery",
    "gallery_shows",
    "view_shows",
    "card",
    "words",
    "card_bundle",
    "result",
    "train",
    "stop",
    "discard",
    "save_now",
    "sample_now",
    "page_status",
)
"""Outputs that show the state of the run."""


class Handlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        session: what the buttons act on.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def check(self, values: Values) -> Outputs:
        """Show all problems; nothing is started."""
        checked = self._session.checked(*read_config(values))
        notice = panels.show_problems(in_rows(checked.problems, values))
        if checked.table is not None:
            notice += panels.show_concept_table(checked.table.as_dict())
        if checked.memory is not None:
            notice += panels.show_memory(checked.memory.as_dict())
        table = None if checked.table is None else checked.table.as_dict()
        return {"notice": notice, REPORT: report_concepts(values, checked.problems, table)}

    def train(self, values: Values) -> Outputs:
        """Start training, or show everything that prevents it."""
        try:
            self._session.start(*read_config(values))
        except ConfigError as error:
            notice = panels.show_problems(in_rows(error.problems, values))
            return {"notice": notice, REPORT: report_concepts(values, error.problems)}
        except Busy as error:
            # This page does not know of the run yet.
            return {"notice": panels.show_error(error), **page_status(self._session)}
        return {"notice": panels.show_message(MESSAGES["started"], "good"), **page_status(self._session)}

    def stop(self, _values: Values) -> Outputs:
        """Stop training and keep the progress."""
        return self._answer(self._session.stop(), "stopping")

    def discard(self, _values: Values) -> Outputs:
        """Stop training and discard the result."""
        return self._answer(self._session.stop(discard=True), "discarding")

    def save_now(self, _values: Values) -> Outputs:
        """Save a bundle after the current step."""
        return self._answer(self._session.save_now(), "will_save")

    def sample_now(self, _values: Values) -> Outputs:
        """Make sample images after the current step."""
        return self._answer(self._session.sample_now(), "will_sample")

    def use_preset(self, values: Values) -> Outputs:
        """Fill in the settings of the chosen preset."""
        if not values["preset"]:
            return {}
        preset = self._session.presets.find(values["preset"])
        notice = panels.show_message(MESSAGES["preset_used"].format(why=preset.why), "good")
        # A question about deleting was about another preset.
        return {"notice": notice, "preset_delete_sure": gr.update(visible=False), **show_preset(preset, values)}

    def restore(self, _values: Values) -> Outputs:
        """Fill in the settings of the last run."""
        config = self._session.last_config()
        if config is None:
            return {"notice": panels.show_message(MESSAGES["nothing_to_restore"])}
        return {"notice": panels.show_message(MESSAGES["restored"], "good"), **show_config(config)}

    def import_settings(self, values: Values) -> Outputs:
        """Fill in what a file or a folder of another program says, and show what of it is not used."""
        result = import_from(self._session.host, values["path"] or "")
        shown = show_config(result.config)
        outputs = {name: shown[name] for name in result.given if name in shown}
        if CONCEPTS in result.given:
            outputs.update({name: shown[name] for name in CONCEPT_INPUTS})
        return {**outputs, "notice": panels.show_import(result)}

    def load(self, _values: Values) -> Outputs:
        """Fill in the last settings when the page is opened, without a message if there are none."""
        answer = page_status(self._session)
        try:
            config = self._session.last_config()
        except PivotalError as error:
            # Include the status, which the page's script always waits for.
            return {**answer, "notice": panels.show_error(error)}
        if config is None:
            return {**answer, "first_visit": gr.update(visible=True)}
        return {**answer, **show_config(config)}

    def try_samples(self, _values: Values) -> Outputs:
        """Write the sample images and fill in the settings for them."""
        settings = show_config(settings_of_samples(self._session.host))
        return {**settings, "notice": panels.show_message(MESSAGES["samples_ready"], "good")}

    def refresh(self, values: Values) -> Outputs:
        """Show the state of the run."""
        status = self._session.status()
        is_active, result = status["is_active"], panels.show_result(status)
        can_request = gr.update(interactive=is_active and not status["is_stopping"])
        outputs = {
            **_changed_panels(status, result, values["view_shows"]),
            "card": gr.update(visible=bool(result)),
            "words": status["words"] or "",
            "card_bundle": status["bundle_name"] or "",
            "train": gr.update(interactive=not is_active),
            "discard": gr.update(interactive=is_active),
            **dict.fromkeys(("stop", "save_now", "sample_now"), can_request),
            **page_status(self._session, status),
        }
        if not is_active and _was_active(values["page_status"]):
            # A notice about the run is no longer true.
            outputs["notice"] = ""
        return {**outputs, **_gallery(status, values["gallery_shows"])}

    def _answer(self, was_active: bool, message: str) -> Outputs:
        text = MESSAGES[message] if was_active else MESSAGES["no_run"]
        return {"notice": panels.show_message(text), **page_status(self._session)}


def page_status(session: Session, status: Mapping[str, Any] | None = None) -> Outputs:
    """What the page's script needs to know of the run and the queue, without paths and captions.

    Args:
        session: the training session.
        status: its status, if it is known already.
    """
    status = status or session.status()
    shown = {name: status[name] for name in ("state", "is_active", "task_id")}
    return {"page_status": json.dumps({**shown, "is_queue_on": session.queue.is_on})}


def _was_active(page_status: str) -> bool:
    return bool(page_status) and bool(json.loads(page_status)["is_active"])


def _gallery(status: dict[str, Any], shown: str) -> Outputs:
    """The samples, newest first, unless the page already shows them."""
    # A sample is announced before its file is written.
    samples = [sample for sample in status["samples"] if Path(sample["path"]).exists()]
    marker = f"{status['task_id']} {len(samples)}"
    if marker == shown:
        return {}
    images, columns = arrange_samples(samples)
    return {"gallery": gr.update(value=images, columns=columns), "gallery_shows": marker}


def _changed_panels(status: dict[str, Any], result: str, shown: str) -> Outputs:
    """The panels that differ from what the page shows, so that nothing flickers, loses the focus or closes.

    Args:
        status: of the run.
        result: the panel with the paths of the result.
        shown: what this function returned as ``view_shows`` the last time.
    """
    shown_marks = json.loads(shown) if shown else {}
    now = {
        "status": panels.show_status(status),
        "warnings": panels.show_warnings(status),
        "plot": show_chart(status),
        "result": result,
    }
    marks = {name: zlib.crc32(html.encode("utf-8", "replace")) for name, html in now.items()}
    changed = {name: html for name, html in now.items() if marks[name] != shown_marks.get(name)}
    return {**changed, "view_shows": json.dumps(marks)} if changed else {}
