"""What we print reaches the console, a pipe or a file in any encoding, or is given up without a traceback.

Windows' console knows the letters of one code page, a pipe may be closed by whoever reads it (``| head``), a disk may
be full, and a program started without a console has no output at all. None of this may end a training.
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
"""Signs in our own sentences, as every console has them."""


class GuardedStream:
    """A text stream that never raises when something is written to it.

    Args:
        stream: where the text goes; None when the program has no such output.

    Attributes:
        failure: why something could not be written; None when all was.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure: BaseException | None = None
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.errors = "backslashreplace"

    @property
    def is_broken_pipe(self) -> bool:
        """Whether the reader has gone away, which it may."""
        # Windows reports a pipe without a reader as an invalid argument.
        return isinstance(self.failure, BrokenPipeError) or (
            os.name == "nt" and getattr(self.failure, "errno", None) == 22
        )

    def write(self, text: str) -> int:
        """Write a text; letters that the encoding lacks are replaced by similar ones or by their numbers."""
        if self._stream is None:
            self.failure = self.failure or OSError("there is no output")
        elif self.failure is None:
            with self._watched():
                self._stream.write(_encodable(text, self.encoding))
                # Else the failure would come when the program ends, as a traceback of Python's own.
                if "\n" in text or "\r" in text:
                    self._stream.flush()
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is held back."""
        if self._stream is not None and self.failure is None:
            with self._watched():
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person sees it at once."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def writable(self) -> bool:
        """Text can be written."""
        return True

    def __getattr__(self, name: str) -> Any:
        """Everything else as the stream has it."""
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        # ValueError: the stream was closed.
        except (OSError, ValueError) as error:
            self.failure = error
        except RuntimeError:
            # A signal came in the middle of another text; that one matters more.
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
    """Within the context ``sys.stdout`` and ``sys.stderr`` are guarded, for us and for the libraries.

    Yields:
        Standard output, to be asked afterwards whether all was written.
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
    """Write text at once.

    Args:
        text: with its line ends.
        is_error: to stderr instead of stdout.
    """
    stream = sys.stderr if is_error else sys.stdout
    stream.write(text)
    stream.flush()


def _occupy_closed_descriptors() -> None:
    """Files that are opened later must not get the numbers of outputs that are closed: libraries print there."""
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)
