"""The values of one object of a file, which may have any type; keys that nobody asked for have no meaning here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.importers.found import Found

__all__ = ["Section", "as_number"]

_YES = ("true", "yes", "on", "1")
_NO = ("false", "no", "off", "0")
_EMPTY = ("", "none", "null")


class Section:
    """Reads values by key. A value that does not fit is reported and counts as missing.

    Many programs write numbers as text and leave a text empty if there is no value.

    Args:
        found: receives warnings and unused keys.
        values: the object.
        where: beginning of the names of its keys in messages.
    """

    def __init__(self, found: Found, values: Mapping[str, Any], where: str = "") -> None:
        self._found = found
        self._values = values
        self._where = where
        self._used: set[str] = set()

    def raw(self, key: str) -> Any:
        """The value as it is; None if there is none."""
        self._used.add(key)
        value = self._values.get(key)
        is_empty = isinstance(value, str) and value.strip().lower() in _EMPTY
        return None if is_empty else value

    def text(self, key: str) -> str | None:
        """A text, or None."""
        value = self.raw(key)
        if value is None or isinstance(value, str):
            return value
        self._misfit(key, value, "a text")
        return None

    def number(self, key: str) -> float | None:
        """A finite number, or None."""
        value = self.raw(key)
        number = as_number(value)
        if number is None and value is not None:
            self._misfit(key, value, "a number")
        return number

    def whole(self, key: str) -> int | None:
        """A whole number, or None."""
        number = self.number(key)
        if number is None or number.is_integer():
            return None if number is None else int(number)
        self._misfit(key, self._values[key], "a whole number")
        return None

    def flag(self, key: str) -> bool | None:
        """True, false, or None."""
        value = self.raw(key)
        word = str(value).strip().lower() if isinstance(value, (str, int, float)) else ""
        if word in (*_YES, *_NO):
            return word in _YES
        if value is not None:
            self._misfit(key, value, "true or false")
        return None

    def path(self, key: str) -> str | None:
        """A path, see :meth:`Found.path`, or None."""
        text = self.text(key)
        return None if text is None else self._found.path(text)

    def choice(self, key: str, meanings: Mapping[str, Any]) -> Any:
        """Our value for one of the file's words, or None.

        Args:
            key: the key.
            meanings: word in lower case → our value.
        """
        word = self.text(key)
        if word is None:
            return None
        if word.strip().lower() not in meanings:
            self.leave(key, f"{shown(word)} does not exist here.")
            return None
        return meanings[word.strip().lower()]

    def leave(self, key: str, message: str, hint: str = "") -> None:
        """Report a key as unused, and say why.

        Args:
            key: the key.
            message: why.
            hint: what to do.
        """
        self._found.leave(self._where + key)
        self._found.warn(self._where + key, message, hint)

    def close(self) -> None:
        """Report all keys that were not asked for."""
        for key in self._values:
            if key not in self._used:
                self._found.leave(f"{self._where}{key}")

    def _misfit(self, key: str, value: Any, expected: str) -> None:
        self.leave(key, f"{shown(value)} is not {expected}, so it is not used.")


def as_number(value: Any) -> float | None:
    """A finite number, also from text such as ``5e-05``; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
