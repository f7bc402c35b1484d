"""HTML for the queue; every text from outside is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.text.runs import QUEUE_STATES, RUN_MESSAGES

__all__ = ["queue_choices", "queue_item_name", "show_queue"]


def queue_item_name(item: Mapping[str, Any]) -> str:
    """What the page calls a run of the queue."""
    if item["resume"]:
        return RUN_MESSAGES["continues"].format(name=PurePath(item["resume"]).name)
    return str(item["config"].get("output_name", ""))


def queue_choices(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Texts to choose a run from: its place in the list, counted from 1, and its name."""
    return [f"{place}. {queue_item_name(item)}" for place, item in enumerate(items, start=1)]


def show_queue(queue: Mapping[str, Any]) -> str:
    """The runs in their order, and whether the queue is going.

    Args:
        queue: see ``app.run_queue.RunQueue.as_dict``.
    """
    problem = f'<div class="pivotal-box pivotal-bad">{escape_html(queue["problem"])}</div>' if queue["problem"] else ""
    items = queue["items"]
    if not items:
        return f'{problem}<div class="pivotal-later">{escape_html(RUN_MESSAGES["queue_empty"])}</div>'
    count = sum(item["state"] == "waiting" for item in items)
    place, rows = 0, []
    for item in items:
        place += item["state"] == "waiting"
        state = QUEUE_STATES[item["state"]].format(place=place, count=count)
        message = f'<div class="pivotal-hint">{escape_html(item["message"][:500])}</div>' if item["message"] else ""
        rows.append(f"<li><b>{escape_html(queue_item_name(item))}</b> {escape_html(state)}{message}</li>")
    idle = "queue_stopped" if count else "queue_nothing"
    state = RUN_MESSAGES["queue_going" if queue["is_going"] else idle]
    # The page's script asks again while the queue can change.
    is_on = queue["is_going"] or any(item["state"] == "running" for item in items)
    style = "pivotal-queue pivotal-queue-on" if is_on else "pivotal-queue"
    return f'{problem}<div role="status">{escape_html(state)}</div><ol class="{style}">{"".join(rows)}</ol>'
