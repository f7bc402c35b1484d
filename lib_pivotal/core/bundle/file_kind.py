"""What a file that should be safetensors and is not really is, told from its first bytes."""

from __future__ import annotations

import re
from collections.abc import Callable

from lib_pivotal.core.bundle.header import LONGEST_HEADER

__all__ = ["SAMPLE_BYTES", "why_not_safetensors"]

SAMPLE_BYTES = 1024
"""Bytes from the beginning of a file that are enough to say what it is."""

_SMALLEST = 64
"""Bytes; no file with a tensor in it has fewer."""
_AGAIN = "Download it again."
_PICKLE = (
    "it is a pickle (.pt, .ckpt, .bin) under another name",
    "Convert it to safetensors with a program that you trust; pickles can run commands when they are loaded.",
)
_IMAGE = ("it is an image", "Give the file that belongs to it. An embedding in an image can be packed into a LoRA.")
_ARCHIVE = ("it is an archive", "Unpack it and give the file inside.")
_PAGE = (
    "it is a web page, saved in place of the file",
    "Download it again with the link of the file itself; some sites want you to log in first.",
)
_KINDS: tuple[tuple[Callable[[bytes], object], tuple[str, str]], ...] = (
    (
        lambda start: start.startswith(b"version https://git-lfs.") or start.startswith(b"version https://hawser."),
        (
            "it is a Git LFS pointer, a small note in place of the file",
            "Run git lfs pull in its folder, or download the file itself from its page.",
        ),
    ),
    (re.compile(rb"(?i)(?:\xef\xbb\xbf)?\s*(?:<!doctype|<html|<\?xml|<head|<body|<!--)").match, _PAGE),
    (
        re.compile(rb"\s*[\[{]\s*[\"\]}]").match,
        ("it is a JSON text, often a site's error message in place of the file", _AGAIN),
    ),
    (lambda start: start.startswith(b"PK\x03\x04") and b"data.pkl" in start, _PICKLE),
    (re.compile(rb"\x80[\x02-\x05]").match, _PICKLE),
    (re.compile(rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|7z\xbc\xaf\x27\x1c|Rar!\x1a|BZh|\xfd7zXZ").match, _ARCHIVE),
    (lambda start: start[257:262] == b"ustar", _ARCHIVE),
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|BM|RIFF.{4}WEBP", re.DOTALL).match, _IMAGE),
    (lambda start: start.startswith(b"GGUF"), ("it is a GGUF file, which holds another kind of model", "")),
    (
        lambda start: start and not start.strip(b"\0"),
        ("it holds only zeros: room was made for a download that did not take place", _AGAIN),
    ),
)
"""A test of the first bytes → what the file is and what to do, most certain first."""


def why_not_safetensors(start: bytes, size: int) -> tuple[str, str]:
    """What a file is, as the end of a sentence "X cannot be read: ", and what to do.

    Args:
        start: its first ``SAMPLE_BYTES`` bytes.
        size: bytes in the file.
    """
    if not size:
        return "it is empty (0 bytes)", _AGAIN
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and LONGEST_HEADER < length <= size:
        most = LONGEST_HEADER // 10**6
        return (
            f"its header has {length // 10**6} MB, and the format allows {most}",
            "Remove the cover images from its metadata with the program that put them there.",
        )
    # What looks like a header is one, and the rest is missing.
    if start[8:9] == b"{" and length <= LONGEST_HEADER:
        return f"it is incomplete: it has {size} bytes, and its header alone has {length}", _AGAIN
    for matches, kind in _KINDS:
        if matches(start):
            return kind
    if size < _SMALLEST:
        return f"it has only {size} bytes", _AGAIN
    return "it is not a safetensors file", _AGAIN
