"""Printing that never fails, whatever the output is.

A Windows console can show only the characters of its code page, the reader of a pipe may close it (``| head``), a disk
may be full, and a program started without a console has no output at all. None of this may end a training run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["GuardedStream", "guarded", "say"]

_PLAIN = str.maketrans(
    {
        "…": "...",
        "–": "-",
        "—": "-",
        "×": "x",
        "→": "->",
        "·": "-",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "\u00a0": " ",
    }
)
"""Non-ASCII characters in our messages and their ASCII replacements."""


class GuardedStream:
    """A text stream that never raises an error on writing.

    Args:
        stream: where the text goes; None if the program has no such output.

    Attributes:
        failure: why something could not be written; None if everything was.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: BaseException | None = None
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.errors = "backslashreplace"

    @property
    def is_broken_pipe(self) -> bool:
        """Whether the reader has closed the pipe, which is not an error."""
        # Windows reports a pipe without a reader as an invalid argument.
        return isinstance(self.failure, BrokenPipeError) or (
            os.name == "nt" and getattr(self.failure, "errno", None) == 22
        )

    def write(self, text: str) -> int:
        """Write a text; characters that the encoding lacks are replaced by similar ones or by escapes."""
        if self._stream is None:
            self.failure = self.failure or OSError("there is no output")
        elif self.failure is None:
            with self._watched():
                self._stream.write(_encodable(text, self.encoding))
                # Otherwise the failure would appear when the program ends, as a traceback from Python.
                if "\n" in text or "\r" in text:
                    self._stream.flush()
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of the texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered."""
        if self._stream is not None and self.failure is None:
            with self._watched():
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether the output is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def writable(self) -> bool:
        """Always true."""
        return True

    def __getattr__(self, name: str) -> Any:
        """Forward everything else to the stream."""
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        # ValueError: the stream was closed.
        except (OSError, ValueError) as error:
            self.failure = error
        except RuntimeError:
            # A signal handler tried to write while another text was being written, which takes precedence.
            pass


def _encodable(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return text.encode("ascii", "backslashreplace").decode("ascii")
    return text


@contextlib.contextmanager
def guarded() -> Iterator[GuardedStream]:
    """Guard ``sys.stdout`` and ``sys.stderr``, for us and for all libraries, while in the context.

    Yields:
        The guarded standard output; its ``failure`` says whether everything was written.
    """
    before = sys.stdout, sys.stderr
    _occupy_closed_descriptors()
    out = GuardedStream(sys.stdout)
    sys.stdout, sys.stderr = out, GuardedStream(sys.stderr)  # type: ignore[assignment]
    try:
        yield out
    finally:
        out.flush()
        sys.stdout, sys.stderr = before


def say(text: str, *, is_error: bool = False) -> None:
    """Write text and flush.

    Args:
        text: including line breaks.
        is_error: write to stderr instead of stdout.
    """
    stream = sys.stderr if is_error else sys.stdout
    stream.write(text)
    stream.flush()


def _occupy_closed_descriptors() -> None:
    """Keep files that are opened later from getting the descriptors of closed outputs, to which libraries print."""
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
