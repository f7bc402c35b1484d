"""The part with past runs and the queue: creates its block and connects it."""

from __future__ import annotations

from typing import Any

from lib_pivotal.app.run_history import MAY_CHANGE
from lib_pivotal.app.session import Session
from lib_pivotal.ui.blocks.runs import create_runs
from lib_pivotal.ui.compat import javascript
from lib_pivotal.ui.fields import input_names
from lib_pivotal.ui.listener import Listener
from lib_pivotal.ui.queue_handlers import QUEUE_OUTPUTS, QueueHandlers
from lib_pivotal.ui.run_handlers import LIST_OUTPUTS, RUN_OUTPUTS, RunHandlers

__all__ = ["add_runs"]

_LIST_INPUTS = ("runs_count", "run", "run_other", "queue_item")


def add_runs(part: Any, tabs: Any, session: Session, training: dict[str, Any]) -> None:
    """Create the part within the current tab.

    Args:
        part: the ``gr.Tab`` around it.
        tabs: the ``gr.Tabs`` around all parts.
        session: knows the runs and has the queue.
        training: components of the training part by name, into which settings are filled.
    """
    parts = create_runs(MAY_CHANGE)
    handlers, queue = RunHandlers(session), QueueHandlers(session)
    fields = input_names()
    listen = Listener({**training, **parts, "tabs": tabs}, notice="runs_notice")
    listen.on(part.select, handlers.refresh, _LIST_INPUTS, LIST_OUTPUTS)
    listen("runs_refresh", handlers.refresh, _LIST_INPUTS, LIST_OUTPUTS)
    listen("runs_more", handlers.more, _LIST_INPUTS, LIST_OUTPUTS)
    listen("runs_open", handlers.open, ["runs_name"], RUN_OUTPUTS)
    listen.on_choice("run", handlers.look, ["run"], RUN_OUTPUTS)
    for name in ("load", "weights"):
        listen(f"run_{name}", getattr(handlers, name), ["run"], ["runs_notice", "tabs", "notice", *fields])
    going_on = ["run", "run_steps", "run_use_fields", *fields]
    listen("run_continue", handlers.resume, going_on, ["runs_notice", "notice", "page_status"], spinner=True)
    listen("run_queue", handlers.enqueue, [*going_on, "queue_item"], QUEUE_OUTPUTS, spinner=True)
    words = listen("run_use", handlers.use, ["run"], ["runs_notice", "run_words"])
    send = javascript("(words) => { pivotal.sendToPrompt(words); return []; }")
    words.then(fn=None, inputs=[parts["run_words"]], outputs=[], **send)
    for name in ("delete", "delete_sure", "delete_steps", "delete_steps_sure", "choose", "choose_sure"):
        listen(f"run_{name}", getattr(handlers, name), ["run", "run_step"], RUN_OUTPUTS, spinner=True)
    listen("run_compare", handlers.compare, ["run", "run_other"], ["runs_notice", "run_comparison"], spinner=True)
    listen("queue_start", queue.start, ["queue_item"], [*QUEUE_OUTPUTS, "page_status"])
    for name in ("stop", "up", "down", "remove", "refresh"):
        listen(f"queue_{name}", getattr(queue, name), ["queue_item"], QUEUE_OUTPUTS)
