"""Every signal that ends a program keeps what was learned; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from lib_pivotal.cli import signals
from lib_pivotal.cli.console import guarded, say
from lib_pivotal.cli.signals import stopping
from lib_pivotal.core.events import Control

KNOWN = [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


@pytest.fixture
def clock(monkeypatch):
    """Seconds, in a list of one; time stands still unless it is changed."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def deaths(monkeypatch):
    """Signals that would have ended this process."""
    found: list[int] = []
    monkeypatch.setattr(signals, "_die", found.append)
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_a_signal_stops_the_run_and_is_handled_as_before_afterwards(name, deaths, request):
    number = getattr(signal, name)
    # Under nohup, the tests themselves ignore SIGHUP, and so does the run.
    outside = signal.signal(number, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(number, outside))
    before, control = signal.getsignal(number), Control()
    with stopping(control, is_first=True):
        signal.raise_signal(number)
        assert control.stop_requested and not control.discard_requested
    assert signal.getsignal(number) == before and not deaths


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "SIGHUP"])
def test_the_same_signal_again_ends_the_process(name, deaths, clock):
    number = getattr(signal, name)
    with stopping(Control(), is_first=False):
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert deaths == [number]


def test_another_signal_right_after_is_the_same_request(deaths, clock):
    """torchrun sends SIGTERM to processes that Ctrl-C has reached already."""
    with stopping(Control(), is_first=False):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert not deaths
        clock[0] += 2
        signal.raise_signal(signal.SIGTERM)
    assert deaths == [signal.SIGTERM]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX")
def test_closing_a_terminal_may_send_sighup_twice(deaths, clock):
    with stopping(Control(), is_first=False):
        signal.raise_signal(signal.SIGHUP)
        clock[0] += 5
        signal.raise_signal(signal.SIGHUP)
    assert not deaths


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX")
def test_nohup_is_respected():
    before, control = signal.signal(signal.SIGHUP, signal.SIG_IGN), Control()
    try:
        with stopping(control, is_first=False):
            os.kill(os.getpid(), signal.SIGHUP)
            assert not control.stop_requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_gets_no_signals_and_changes_nothing():
    seen = []

    def work() -> None:
        with stopping(Control(), is_first=True):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_the_second_signal_does_what_it_would_have_done(monkeypatch):
    calls = []
    monkeypatch.setattr(signal, "signal", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(signal, "raise_signal", calls.append)
    signals._die(signal.SIGTERM)
    assert calls == [(signal.SIGTERM, signal.SIG_DFL), signal.SIGTERM]


# -- output that nobody can take


class Broken:
    """A stream whose other end has gone."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, *_):
        raise self.error

    flush = fileno = write


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), BrokenPipeError(), ValueError("closed file")])
def test_a_signal_handler_survives_a_terminal_that_has_gone(monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", Broken(error))
    monkeypatch.setattr(sys, "stdout", Broken(error))
    control = Control()
    # Every command runs inside this.
    with guarded(), stopping(control, is_first=True):
        signal.raise_signal(signal.SIGTERM)
        say("no failure")
    assert control.stop_requested
