"""What the buttons of the queue do; inputs and outputs are passed by name."""

from __future__ import annotations

import gradio as gr

from lib_pivotal.app.queue_file import QueueItem
from lib_pivotal.app.session import Session
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.ui import panels
from lib_pivotal.ui.choice_list import list_again
from lib_pivotal.ui.fields import in_rows, read_config
from lib_pivotal.ui.handlers import page_status
from lib_pivotal.ui.listener import Outputs, Values
from lib_pivotal.ui.queue_view import queue_choices, queue_item_name, show_queue
from lib_pivotal.ui.text.runs import RUN_MESSAGES

__all__ = ["QUEUE_OUTPUTS", "QueueHandlers", "queued_message"]

QUEUE_OUTPUTS = ("runs_notice", "queue_view", "queue_item")
"""Outputs that the buttons of the queue may change."""


def queued_message(session: Session, item: QueueItem) -> str:
    """What the page says after a run was added."""
    place = sum(other.state == "waiting" for other in session.queue.items())
    added = RUN_MESSAGES["queued"].format(name=queue_item_name(item.as_dict()), place=place)
    return panels.show_message(added, "good", RUN_MESSAGES["queued_after" if session.is_active else "queued_idle"])


class QueueHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        session: has the queue.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queue = session.queue

    def add(self, values: Values) -> Outputs:
        """Add a run with the settings of the tab."""
        try:
            item = self._queue.add(*read_config(values))
        except ConfigError as error:
            raise ConfigError(in_rows(error.problems, values)) from error
        return {"notice": queued_message(self._session, item)}

    def refresh(self, values: Values) -> Outputs:
        """Show the queue; the selection stays, unless the run no longer exists."""
        queue = self._queue.as_dict()
        return {
            "queue_view": show_queue(queue),
            "queue_item": list_again(queue_choices(queue["items"]), values["queue_item"]),
        }

    def start(self, values: Values) -> Outputs:
        """Start the first waiting run, and the others after it."""
        has_waiting = self._queue.start()
        notice = panels.show_message(RUN_MESSAGES["queue_started" if has_waiting else "queue_nothing"])
        return {**self.refresh(values), "runs_notice": notice, **page_status(self._session)}

    def stop(self, values: Values) -> Outputs:
        """Stop the current run, and start no further one."""
        was_on = self._queue.stop_all()
        notice = panels.show_message(RUN_MESSAGES["queue_stopping" if was_on else "queue_stopped"])
        return {**self.refresh(values), "runs_notice": notice}

    def up(self, values: Values) -> Outputs:
        """Move the selected run toward the start."""
        return self._move(values, -1)

    def down(self, values: Values) -> Outputs:
        """Move the selected run toward the end."""
        return self._move(values, 1)

    def _move(self, values: Values, by: int) -> Outputs:
        item_id = self._chosen(values)
        self._queue.move(item_id, by)
        items = self._queue.as_dict()["items"]
        place = [item["id"] for item in items].index(item_id)
        choices = queue_choices(items)
        return {**self.refresh(values), "queue_item": gr.update(choices=choices, value=choices[place])}

    def remove(self, values: Values) -> Outputs:
        """Remove the selected run."""
        self._queue.remove(self._chosen(values))
        # The run behind it may now have the text of the removed one.
        choices = queue_choices(self._queue.as_dict()["items"])
        return {**self.refresh(values), "queue_item": gr.update(choices=choices, value=None)}

    def _chosen(self, values: Values) -> str:
        items = self._queue.as_dict()["items"]
        choices = queue_choices(items)
        if values["queue_item"] not in choices:
            # The list may have changed since it was shown.
            problem = Problem("queue_item", "error", "No run of the queue is selected.", "Refresh, and select one.")
            raise ConfigError([problem])
        return str(items[choices.index(values["queue_item"])]["id"])
