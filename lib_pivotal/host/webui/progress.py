"""The webui's queue and its progress bar."""

from __future__ import annotations

import contextlib
import html
import math
import time
from collections.abc import Iterator

from lib_pivotal.core.events import Event, Finished, Prepared, Preparing, SampleReady, Saved, StepDone, Warned

__all__ = ["WebuiProgress", "exclusive", "must_stop"]


class WebuiProgress:
    """Shows events in the webui's progress bar; implements ``core.ports.ProgressSink``.

    Host: modules/progress.py, ``progressapi``, A1111 1.6.1-1.10.1, Forge: the bar is ``job_no / job_count`` and the
    time left follows from it and ``time_start``; ``textinfo`` goes into the page as HTML, and is not shown if it
    contains a newline.
    """

    def __init__(self) -> None:
        self._first = 0
        self._total = 0
        self._stage = ""

    def handle(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Preparing):
            self._prepare(event)
        elif isinstance(event, Prepared):
            self._first, self._total = event.first_step, event.total_steps
            self._count(0, self._total - self._first, restart=True)
        elif isinstance(event, StepDone):
            self._count(event.step - self._first, self._total - self._first)
            loss = f", loss {event.loss:.4f}" if math.isfinite(event.loss) else ""
            self._say(f"Step {event.step} of {self._total}{loss}")
        elif isinstance(event, SampleReady):
            self._show(event)
        elif isinstance(event, Saved):
            self._say(f"Saved {event.path.name}")
        elif isinstance(event, Warned):
            self._say(event.message)
        elif isinstance(event, Finished):
            self._say(event.message or f"Training: {event.outcome}")

    def _prepare(self, event: Preparing) -> None:
        self._count(event.done, event.total, restart=event.stage != self._stage)
        self._stage = event.stage
        self._say(f"Preparing {event.stage}: {event.done} of {event.total}")

    def _count(self, done: int, total: int, *, restart: bool = False) -> None:
        from modules import shared

        state = shared.state
        state.job_count, state.job_no = max(total, 1), done
        state.sampling_step = 0
        if restart:
            state.time_start = time.time()

    def _say(self, text: str) -> None:
        from modules import shared

        shared.state.textinfo = html.escape(" ".join(text.split()))

    def _show(self, event: SampleReady) -> None:
        """Show a preview.

        Host: modules/shared_state.py, ``assign_current_image``, A1111 1.6.1-1.10.1: the page fetches the image when
        live previews are on.
        """
        from modules import shared

        shared.state.assign_current_image(event.image.copy())


def must_stop() -> bool:
    """Whether the user has pressed the webui's Interrupt.

    Host: modules/shared_state.py, ``interrupted``, A1111 1.6.1-1.10.1, Forge, reForge, and ``stopping_generation``,
    from 1.8: flags of the whole webui, also set by Interrupt for a generation that waits in the queue.
    """
    from modules import shared

    return bool(shared.state.interrupted or getattr(shared.state, "stopping_generation", False))


@contextlib.contextmanager
def exclusive(task_id: str) -> Iterator[WebuiProgress]:
    """Wait for a turn in the webui's queue, then keep it; usable from any thread.

    Nothing is put into ``recorded_results``: it keeps only two results, and ours, which the session keeps itself, would
    replace a generation of the user's.

    Args:
        task_id: ``task(…)``, the id with which the page asks for progress.

    Host: modules/call_queue.py, ``wrap_gradio_gpu_call``, A1111 1.6.1-1.10.1: the order of these calls; the lock is
    not re-entrant; flags are reset at the end (``stopping_generation`` from 1.8).
    """
    from modules import call_queue, progress, shared

    progress.add_task_to_queue(task_id)
    try:
        with call_queue.queue_lock:
            try:
                shared.state.begin(job=task_id)
                progress.start_task(task_id)
                yield WebuiProgress()
            finally:
                progress.finish_task(task_id)
                shared.state.end()
                _reset_flags()
    finally:
        # It is still queued if the wait itself was interrupted.
        progress.pending_tasks.pop(task_id, None)


def _reset_flags() -> None:
    from modules import shared

    for flag in ("skipped", "interrupted", "stopping_generation"):
        if hasattr(shared.state, flag):
            setattr(shared.state, flag, False)
    shared.state.textinfo = None
