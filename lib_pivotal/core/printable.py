"""Makes untrusted text safe to print in a terminal, a log, a message or JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = ["printable", "printable_json", "printable_lines"]

_MAX_LENGTH = 60
_ESCAPED = re.compile(r"[^ -~]")


def printable(text: object, max_length: int | None = _MAX_LENGTH) -> str:
    r"""A text in one line without hidden contents such as control characters or changes of the text direction.

    Unprintable characters become escapes such as ``\x1b`` or ``\u202e``, and so do spaces that look like ordinary
    ones. Letters of all scripts are kept.

    Args:
        text: anything; taken as ``str(text)``.
        max_length: maximum number of characters; None shows all.
    """
    whole = str(text)
    shown = whole if max_length is None else whole[:max_length]
    result = _ESCAPED.sub(lambda match: _escaped(match.group()), shown)
    return result + "…" if len(shown) < len(whole) else result


def printable_lines(text: str) -> str:
    """Like :func:`printable`, for a message of several lines, at full length."""
    return "\n".join(printable(line, None) for line in text.split("\n"))


def _is_plain(letter: str) -> bool:
    # East Asian file names often contain the wide space, which is easily recognized.
    return letter.isprintable() or letter == "\u3000"


def _escaped(letter: str) -> str:
    if _is_plain(letter):
        return letter
    if "\udc80" <= letter <= "\udcff":
        # A byte of a file name that is not UTF-8, as Python represents it.
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def printable_json(value: Any) -> str:
    """JSON that is valid and safe to print, whatever the value; NaN and infinity become null.

    Args:
        value: dictionaries, lists, strings, numbers, None.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    return _ESCAPED.sub(lambda match: _json_escaped(match.group()), text)


def _json_escaped(letter: str) -> str:
    # Line breaks between values come from json; those inside strings are already escaped.
    if letter == "\n" or _is_plain(letter):
        return letter
    return json.dumps(letter)[1:-1]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
