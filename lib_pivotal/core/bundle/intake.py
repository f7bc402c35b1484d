"""Taking in the embeddings of a file: limits of names, number and size, and a list of what was turned away."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from lib_pivotal.core.bundle.values import Refused, byte_count
from lib_pivotal.core.errors import Problem

__all__ = ["LONGEST_NAME", "MOST_BYTES", "MOST_EMBEDDINGS", "Intake", "check_name", "shown_name"]

MOST_EMBEDDINGS = 256
MOST_BYTES = 64 * 2**20
LONGEST_NAME = 100
_MOST_PROBLEMS = 32
_SHOWN = 60
_UNTYPABLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode's control, format (bidi too), surrogate and private letters, and its separators of lines."""


class Intake:
    """Counts what was taken and notes what was not."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._more = 0
        self._names: dict[str, str] = {}
        self._bytes = 0

    def claim(self, name: str, shapes: Mapping[str, Sequence[int]]) -> None:
        """Take the name and the room of an embedding that is yet to be read.

        Args:
            name: of the embedding; capitals make no difference.
            shapes: of its tensors.

        Raises:
            Refused: the name is taken, or there is no room.
        """
        if name.casefold() in self._names:
            raise Refused(f"the name is there twice, also as {shown_name(self._names[name.casefold()])!r}")
        if len(self._names) >= MOST_EMBEDDINGS:
            raise Refused(f"only {MOST_EMBEDDINGS} embeddings of a file are read")
        if self._bytes + byte_count(shapes) > MOST_BYTES:
            raise Refused(f"only {MOST_BYTES >> 20} MiB of embeddings of a file are read")
        self._names[name.casefold()] = name
        self._bytes += byte_count(shapes)

    def tell(self, name: str, severity: str, message: str, hint: str = "") -> None:
        """Note a problem; of very many only the first ones are kept."""
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(Problem(shown_name(name), severity, message, hint))
        else:
            self._more += 1

    def refuse(self, name: str, reason: str, hint: str = "") -> None:
        """Note why an embedding is not used."""
        self.tell(name, "error", f"The embedding {shown_name(name)!r} is not used: {reason}.", hint)

    @property
    def problems(self) -> list[Problem]:
        """All of them, and how many more there were."""
        if not self._more:
            return list(self._problems)
        rest = Problem("…", "error", f"There are {self._more} more problems with embeddings of this file.", "")
        return [*self._problems, rest]


def check_name(name: str) -> None:
    """Whether a name can be typed at all; what it would do in prompts is for those who have a tokenizer to say.

    Raises:
        Refused: it cannot.
    """
    if not name.strip():
        raise Refused("its name is empty")
    if len(name) > LONGEST_NAME:
        raise Refused(f"its name has {len(name)} letters; {LONGEST_NAME} are allowed")
    if any(unicodedata.category(letter) in _UNTYPABLE for letter in name):
        raise Refused("its name has letters that cannot be typed")


def shown_name(name: str) -> str:
    """A name as it may stand in messages: short and printable, whatever it was."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name[:_SHOWN])
    return text + "…" if len(name) > _SHOWN else text
