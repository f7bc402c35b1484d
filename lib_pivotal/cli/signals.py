"""Signals that ask a training run to end: all of them keep what has been learned."""

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
_SAME_REQUEST = 1.0
"""Seconds in which another kind of signal is the same request: torchrun answers Ctrl-C, which reaches all of its
processes anyway, by sending each a SIGTERM."""


@contextlib.contextmanager
def stopping(control: Control, *, is_first: bool) -> Iterator[None]:
    """Within the context a signal ends the run after its step and keeps the result; a second one ends the process.

    A terminal that is closed may send SIGHUP twice, so that one never ends the process; where it is ignored (nohup)
    it stays so. In any thread but the main one, which alone gets signals, nothing is changed.

    Args:
        control: of the run.
        is_first: whether this process talks to the user.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler(control, is_first=is_first)
    before = {}
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue
        before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, kept in before.items():
            # None: it was not set from Python and cannot be set back from here.
            signal.signal(number, signal.SIG_DFL if kept is None else kept)


class _Handler:
    def __init__(self, control: Control, *, is_first: bool) -> None:
        self._control = control
        self._is_first = is_first
        self._first: int | None = None
        self._at = 0.0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self._first is None:
            self._first, self._at = number, time.monotonic()
            self._control.stop()
            if self._is_first:
                text = "Stopping after this step; the result is kept. Press Ctrl-C again to end at once."
                say(f"\n{text}\n", is_error=True)
            return
        is_same_request = number != self._first and time.monotonic() - self._at < _SAME_REQUEST
        if is_same_request or number == getattr(signal, "SIGHUP", None):
            return
        if self._is_first:
            say("\nEnded at once; nothing more was saved.\n", is_error=True)
        _die(number)


def _die(number: Any) -> None:
    """End the process as if the signal had never been handled; nothing is cleaned up, which the next start does."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
