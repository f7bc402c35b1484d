"""Formats values of any size and type for messages."""

from __future__ import annotations

import re
import reprlib
from typing import Any

from lib_pivotal.core.printable import printable

__all__ = ["HALF_PAIR", "shown"]

_MAX_LENGTH = 80

HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Lone surrogates. JSON can contain them as escapes, but UTF-8, and thus files and pages, cannot."""


class _Shortened(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxlist = self.maxtuple = self.maxdict = 3
        self.maxstring = self.maxother = self.maxlong = _MAX_LENGTH

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to format thousands of digits.
        return super().repr_int(x, level) if x.bit_length() < 1000 else "a number of hundreds of digits"


_shortened = _Shortened()


def shown(value: Any) -> str:
    """A JSON value in Python notation; long strings, lists and objects are shortened."""
    return printable(_shortened.repr(value), _MAX_LENGTH)
