"""Output that never ends a command: any encoding, a closed pipe, a terminal that has gone."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

__all__ = ["make_tolerant", "say"]


def make_tolerant() -> None:
    """Let both streams replace what their encoding cannot write (a Windows console knows few letters)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def say(text: str, *, is_error: bool = False) -> None:
    """Write text as it is, at once; when nobody can read it any more, that is no failure.

    Args:
        text: with its line ends.
        is_error: to stderr instead of stdout.
    """
    stream = sys.stderr if is_error else sys.stdout
    if stream is None:
        # Programs without a console on Windows have none.
        return
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        _silence(stream)


def _silence(broken: TextIO) -> None:
    """Send what follows nowhere, so that neither progress bars nor Python's own flush at the end fail."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                if stream is broken or _has_gone(stream.fileno()):
                    os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _has_gone(descriptor: int) -> bool:
    """Whether a terminal was closed: it refuses even to be written nothing."""
    try:
        os.write(descriptor, b"")
    except OSError:
        return True
    return False
