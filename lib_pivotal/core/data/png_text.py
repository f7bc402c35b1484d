"""Removes text chunks from PNG files, which may be longer than Pillow accepts."""

from __future__ import annotations

import struct

__all__ = ["without_text"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_FRAME_BYTES = 12
"""Length, name and checksum of a chunk."""


def without_text(data: bytes) -> bytes:
    """A PNG file without its text chunks; any other file as it is.

    Programs that make images store their settings there, up to megabytes of them; the pixels do not need them.

    Args:
        data: contents of the file; a damaged rest is kept as it is.

    Source: PNG specification, https://www.w3.org/TR/png-3/#5Chunk-layout
    """
    if not data.startswith(_SIGNATURE):
        return data
    kept = [_SIGNATURE]
    start = at = len(_SIGNATURE)
    while at + _FRAME_BYTES <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        end = at + _FRAME_BYTES + length
        if name in _TEXT and end <= len(data):
            kept.append(data[start:at])
            start = end
        at = end
    return data if start == len(_SIGNATURE) else b"".join([*kept, data[start:]])
