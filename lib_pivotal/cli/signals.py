"""Signals that stop a training run; the progress is kept."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from lib_pivotal.cli.console import say
from lib_pivotal.core.events import Control

__all__ = ["stopping"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Ctrl-C; kill, docker stop, job schedulers; a closed terminal; Ctrl-Break and a closed console on Windows."""
_NOTICE = "Stopping after the current step; progress is kept."
_SAME_REQUEST = 1.0
"""Seconds in which a different signal counts as the same request: on Ctrl-C, which all processes receive anyway,
torchrun also sends each of them a SIGTERM."""


@contextlib.contextmanager
def stopping(control: Control, *, is_first: bool, notice: str = _NOTICE) -> Iterator[None]:
    """While in the context, a signal stops the run after the current step; a second one ends the process.

    Closing a terminal may send SIGHUP twice, so SIGHUP never ends the process; if it is ignored (nohup), it remains
    ignored. Only the main thread receives signals, so nothing changes in other threads.

    Args:
        control: the run's control.
        is_first: whether this process prints messages.
        notice: what is printed at the first signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler(control, is_first=is_first, notice=notice)
    before = {}
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue
        before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            # None: the handler was not installed from Python and cannot be restored from here.
            signal.signal(number, signal.SIG_DFL if old is None else old)


class _Handler:
    def __init__(self, control: Control, *, is_first: bool, notice: str) -> None:
        self._control = control
        self._notice = notice
        self._is_first = is_first
        self._first: int | None = None
        self._at = 0.0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self._first is None:
            self._first, self._at = number, time.monotonic()
            self._control.stop()
            if self._is_first:
                say(f"\n{self._notice} Press Ctrl-C again to quit immediately.\n", is_error=True)
            return
        is_same_request = number != self._first and time.monotonic() - self._at < _SAME_REQUEST
        if is_same_request or number == getattr(signal, "SIGHUP", None):
            return
        if self._is_first:
            say("\nQuit immediately; nothing more was saved.\n", is_error=True)
        _die(number)


def _die(number: Any) -> None:
    """End the process as the signal does by default; the next start cleans up what is left."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
