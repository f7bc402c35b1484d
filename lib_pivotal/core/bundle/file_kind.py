"""Recognizes from its first bytes what a file is that should be safetensors but is not."""

from __future__ import annotations

import re
from collections.abc import Callable

from lib_pivotal.core.bundle.header import MAX_HEADER_BYTES

__all__ = ["SAMPLE_BYTES", "why_not_safetensors"]

SAMPLE_BYTES = 1024
"""Number of bytes at the beginning of a file that suffice to recognize it."""

_MIN_BYTES = 64
"""Minimum size in bytes of a file with a tensor."""
_AGAIN = "Download it again."
_PICKLE = (
    "it is a pickle (.pt, .ckpt, .bin) under another name",
    "Convert it to safetensors with a program that you trust; loading a pickle can run code.",
)
_IMAGE = ("it is an image", "Choose the model file instead. An embedding in an image can be packed into a LoRA.")
_ARCHIVE = ("it is an archive", "Unpack it and choose the file inside.")
_PAGE = (
    "it is a web page saved instead of the file",
    "Download it again from the direct link; some sites require you to log in first.",
)
_KINDS: tuple[tuple[Callable[[bytes], object], tuple[str, str]], ...] = (
    (
        lambda start: start.startswith(b"version https://git-lfs.") or start.startswith(b"version https://hawser."),
        (
            "it is a Git LFS pointer instead of the file itself",
            "Run git lfs pull in its folder, or download the file itself from its page.",
        ),
    ),
    (re.compile(rb"(?i)(?:\xef\xbb\xbf)?\s*(?:<!doctype|<html|<\?xml|<head|<body|<!--)").match, _PAGE),
    (
        re.compile(rb"\s*[\[{]\s*[\"\]}]").match,
        ("it is JSON text, often a site's error message saved instead of the file", _AGAIN),
    ),
    (lambda start: start.startswith(b"PK\x03\x04") and b"data.pkl" in start, _PICKLE),
    (re.compile(rb"\x80[\x02-\x05]").match, _PICKLE),
    (re.compile(rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|7z\xbc\xaf\x27\x1c|Rar!\x1a|BZh|\xfd7zXZ").match, _ARCHIVE),
    (lambda start: start[257:262] == b"ustar", _ARCHIVE),
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|BM|RIFF.{4}WEBP", re.DOTALL).match, _IMAGE),
    (lambda start: start.startswith(b"GGUF"), ("it is a GGUF file, which contains another kind of model", "")),
    (
        lambda start: start and not start.strip(b"\0"),
        ("it contains only zeros: space was reserved for a download that never finished", _AGAIN),
    ),
)
"""Test of the first bytes → what the file is and what to do; the most reliable tests come first."""


def why_not_safetensors(start: bytes, size: int) -> tuple[str, str]:
    """What a file is, continuing the sentence "X cannot be read: ", and what to do.

    Args:
        start: its first ``SAMPLE_BYTES`` bytes.
        size: size of the file in bytes.
    """
    if not size:
        return "it is empty (0 bytes)", _AGAIN
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and MAX_HEADER_BYTES < length <= size:
        most = MAX_HEADER_BYTES // 10**6
        return (
            f"its header has {length // 10**6} MB, and the format allows {most}",
            "Remove the cover images from its metadata with the program that put them there.",
        )
    # It begins like a header, but the rest is missing.
    if start[8:9] == b"{" and length <= MAX_HEADER_BYTES:
        return f"it is incomplete: it has {size} bytes, and its header alone has {length}", _AGAIN
    for matches, kind in _KINDS:
        if matches(start):
            return kind
    if size < _MIN_BYTES:
        return f"it has only {size} bytes", _AGAIN
    return "it is not a safetensors file", _AGAIN
