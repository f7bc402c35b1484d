"""Reads JSON text of settings, which may be written by hand, by a program, or by an attacker."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["MAX_SETTINGS_BYTES", "parse_settings", "read_settings_file"]

MAX_SETTINGS_BYTES = 2**20
"""Maximum size in bytes. A thousand concepts need a fifth of it."""

_MAX_DIGITS = 300
"""Every number that fits a float has fewer digits before the decimal point; Python is slow with many more."""

_COMPARE = "Compare it with the example in the README."
_BACKSLASH = 'In JSON a backslash is written twice: "C:\\\\images\\\\zog". A slash also works: "C:/images/zog".'


def read_settings_file(path: Path) -> bytes:
    """Read a settings file.

    Raises:
        ConfigError: it cannot be read, is not a file, or is too long for settings.
    """
    try:
        # Reading a pipe or a device might never end.
        if path.exists() and not path.is_file():
            raise _problem("It is not a file.", "Choose a JSON file.", str(path))
        with path.open("rb") as file:
            raw = file.read(MAX_SETTINGS_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _problem(f"It cannot be read ({reason}).", "Check the path.", str(path)) from error
    if len(raw) > MAX_SETTINGS_BYTES:
        text = f"It is longer than {MAX_SETTINGS_BYTES >> 10} KiB, so it cannot be a settings file."
        raise _problem(text, "Choose a JSON file.", str(path))
    return raw


def parse_settings(text: str | bytes) -> Any:
    """Parse JSON text; numbers too large for a float become infinite.

    Args:
        text: bytes are read as UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: it is not JSON; the message says what is wrong and in which line.
    """
    decoded = _decode(text) if isinstance(text, bytes) else text.removeprefix("\ufeff")
    try:
        return json.loads(decoded, parse_int=_read_digits)
    except json.JSONDecodeError as error:
        if "\\" in decoded.split("\n")[error.lineno - 1]:
            raise _problem(f"Line {error.lineno} is not JSON: {error.msg}.", _BACKSLASH) from error
        where = f"line {error.lineno}, column {error.colno}"
        raise _problem(f"This is not JSON: {error.msg} ({where}).", _COMPARE) from error
    except RecursionError as error:
        raise _problem("These are not settings: the brackets are nested too deeply.", _COMPARE) from error


def _read_digits(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _decode(raw: bytes) -> str:
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if raw.startswith(marks) or b"\0" in raw[:4]:
        raise _problem("The text is UTF-16.", "Save it as UTF-8 (in the editor: Save as, Encoding).")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        text = f"Line {line} has characters that are not UTF-8."
        raise _problem(text, "Save the file as UTF-8 (in the editor: Save as, Encoding).") from error


def _problem(message: str, hint: str, field: str = "config") -> ConfigError:
    return ConfigError([Problem(field, "error", message, hint)])
