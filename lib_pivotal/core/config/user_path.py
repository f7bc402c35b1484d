"""Paths as users enter them in settings: their spelling, before looking for files there."""

from __future__ import annotations

import errno
import os
from pathlib import Path, PureWindowsPath

from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.errors import Problem

__all__ = ["MAX_WINDOWS_PATH", "RESERVED_NAMES", "bare_path", "check_path"]

RESERVED_NAMES = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in "123456789¹²³")}
"""Device names reserved by Windows, with any suffix and in any case."""

MAX_WINDOWS_PATH = 259
"""Maximum length of a path that every program on Windows can open."""

_AROUND = " \t\r\n\u00a0\"'“”\u200b\u200e\u200f\u202a\u202c\ufeff"
"""What comes along when a path is copied: blanks, quotes, and the invisible marks of Windows' property pages."""

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EBADF)
"""Errors that are not caused by the spelling of a path."""


def bare_path(text: str) -> str:
    """Strip surrounding spaces and the quotes of Windows' "Copy as path" from a path."""
    return text.strip(_AROUND)


def check_path(field: str, text: str, *, is_windows: bool = os.name == "nt") -> list[Problem]:
    """Check the spelling of a path; whether it exists is not checked.

    Args:
        field: name of the setting.
        text: the path as entered.
        is_windows: whether Windows' rules apply.
    """
    found = _spelling(text) or (_windows_spelling(text) if is_windows else None) or _use(text)
    return [Problem(field, "error", *found)] if found else []


def _spelling(text: str) -> tuple[str, str] | None:
    if any(ord(letter) < 32 for letter in text):
        hint = 'In JSON a backslash is written twice: "C:\\\\images\\\\zog". A slash also works: "C:/images/zog".'
        return f"The path {shown(text)} has a character that cannot be typed.", hint
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return f"The path {shown(text)} is in quotes.", "Remove them."
    if text != text.strip() and not os.path.lexists(text):
        return f"The path {shown(text)} begins or ends with a space.", "Remove it."
    return None


def _windows_spelling(text: str) -> tuple[str, str] | None:
    path = PureWindowsPath(text)
    if path.drive and not path.root:
        return f"The path {shown(text)} has no slash after the drive.", f"Begin it with {path.drive}/."
    for part in path.parts[1:] if path.anchor else path.parts:
        if part in (".", ".."):
            continue
        if set(part) & set('<>:"|?*'):
            return f"The name {shown(part)} has a character that Windows does not allow.", "Check the path."
        if part.partition(".")[0].strip().lower() in RESERVED_NAMES:
            return f"The name {shown(part)} is a device name in Windows.", "Use a folder with another name."
    if len(text) > MAX_WINDOWS_PATH and not os.path.lexists(text):
        return f"The path has {len(text)} characters; Windows allows {MAX_WINDOWS_PATH}.", "Use a shorter one."
    return None


def _use(text: str) -> tuple[str, str] | None:
    """Problems that the operating system reports."""
    try:
        Path(text).expanduser().stat()
    except RuntimeError:
        return f"The path {shown(text)} refers to a user who does not exist here.", "Enter the full path."
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return (
                f"The path {shown(text)} is too long.",
                "Check the path; each name in it can have up to 255 characters.",
            )
        if error.errno not in _ABSENT:
            return f"The path {shown(text)} cannot be used ({error.strerror}).", "Check the path."
    except ValueError as error:
        return f"The path {shown(text)} cannot be used ({error}).", "Check the path."
    return None
