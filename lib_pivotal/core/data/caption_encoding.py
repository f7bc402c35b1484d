"""Decodes captions: Unicode is recognized, older encodings are never guessed, because captions are too short."""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from typing import NamedTuple

__all__ = ["LEGACY_ENCODINGS", "Decoded", "decode", "decoded", "decodings"]

LEGACY_ENCODINGS = ("cp932", "gb18030", "cp1252", "cp949", "big5")
"""Encodings of captions that are not Unicode: Japanese, Chinese, Western European, Korean and traditional Chinese."""

_MARKS = (
    (BOM_UTF8, "utf-8"),
    # Before UTF-16, whose mark is the beginning of this one.
    (BOM_UTF32_LE, "utf-32-le"),
    (BOM_UTF32_BE, "utf-32-be"),
    (BOM_UTF16_LE, "utf-16-le"),
    (BOM_UTF16_BE, "utf-16-be"),
)

_MIN_NUL_SHARE = 0.3
"""Minimum share of NUL among every second byte of UTF-16; even Chinese tags have a comma and a space per word."""


class Decoded(NamedTuple):
    """The text of a file, and how it is stored.

    Attributes:
        text: the text, without a byte order mark.
        encoding: Python's name of its encoding.
        mark: the byte order mark in front of it; may be empty.
    """

    text: str
    encoding: str
    mark: bytes = b""


def decode(data: bytes, legacy: str = "") -> str | None:
    """The text of a caption file; None if its encoding is unknown.

    Args:
        data: contents of the file.
        legacy: encoding of files that are not Unicode; empty if it is unknown.
    """
    found = decoded(data, legacy)
    return found.text if found is not None else None


def decoded(data: bytes, legacy: str = "") -> Decoded | None:
    """Like :func:`decode`, together with the encoding."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], encoding, mark)
    found = _strict(data, "utf-8")
    if found is None and b"\0" in data:
        found = _utf16_without_mark(data)
    if found is None and legacy:
        found = _strict(data, legacy)
    return found


def decodings(data: bytes) -> list[tuple[str, str]]:
    """Each legacy encoding with the text in it; what it cannot say is shown as U+FFFD."""
    return [(encoding, data.decode(encoding, "replace")) for encoding in LEGACY_ENCODINGS]


def _strict(data: bytes, encoding: str, mark: bytes = b"") -> Decoded | None:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    # UTF-16 without a byte order mark can be valid in other encodings, with NUL as every second character.
    return None if "\0" in text else Decoded(text, encoding, mark)


def _utf16_without_mark(data: bytes) -> Decoded | None:
    if len(data) % 2:
        return None
    low, high = data[0::2].count(0), data[1::2].count(0)
    if (low and high) or max(low, high) <= _MIN_NUL_SHARE * len(data) / 2:
        return None
    return _strict(data, "utf-16-be" if low else "utf-16-le")
