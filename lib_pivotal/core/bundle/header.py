"""Parses the header of a safetensors file, within fixed limits because the file may be malicious.

Source: https://github.com/huggingface/safetensors, the description of the format in its README.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lib_pivotal.core.printable import printable

__all__ = ["MAX_HEADER_BYTES", "NUMBER_TYPES", "Entry", "Header", "MalformedHeader", "parse_header"]

MAX_HEADER_BYTES = 100_000_000
"""Maximum in bytes that the format allows. Only cover images in the metadata make a header longer than about 1 MB."""
NUMBER_TYPES = {
    "F64": (8, "float64"),
    "F32": (4, "float32"),
    "F16": (2, "float16"),
    "BF16": (2, "bfloat16"),
    "F8_E4M3": (1, "float8_e4m3fn"),
    "F8_E5M2": (1, "float8_e5m2"),
    "I64": (8, "int64"),
    "I32": (4, "int32"),
    "I16": (2, "int16"),
    "I8": (1, "int8"),
    "U8": (1, "uint8"),
    "BOOL": (1, "bool"),
}
"""Dtypes of safetensors: bytes per number and torch's name. Old versions of torch lack some."""

_SHORT = 2**20
"""Maximum header size in bytes that the JSON library may parse as a whole."""
_LONG_NUMBER = re.compile(rb"\d{20}")
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_SIMPLE = re.compile(r"[-+.0-9A-Za-z]{1,40}")
_MAX_ENTRY_LENGTH = 1000
"""Maximum number of characters of one tensor's entry."""
_MAX_SIDES = 16
_MAX_TENSORS = 20_000
"""A LoRA of every layer of SDXL, the largest supported model, has less than half as many."""
_MAX_TEXTS = 10_000
_MAX_FAULTS = 8


class MalformedHeader(ValueError):
    """The header cannot be used; the message continues the sentence "X cannot be read: "."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        dtype: safetensors' name of the dtype.
        shape: its dimensions.
        begin: offset of the first byte from the end of the header.
        end: offset after the last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def fits(self) -> bool:
        """Whether the size matches shape and dtype; True for unknown dtypes."""
        width, _ = NUMBER_TYPES.get(self.dtype, (0, ""))
        return not width or math.prod(self.shape) * width == self.end - self.begin


@dataclass(frozen=True)
class Header:
    """A parsed header.

    Attributes:
        entries: key → tensor entry.
        metadata: metadata strings; other values are left out.
        faults: reasons why the safetensors library, and thus other programs, reject the file although it can be
            read here; each is a complete sentence.
    """

    entries: dict[str, Entry]
    metadata: dict[str, str]
    faults: tuple[str, ...]


def parse_header(raw: bytes, data_size: int) -> Header:
    """Parse a header.

    Args:
        raw: the header's bytes, at most ``MAX_HEADER_BYTES``.
        data_size: number of bytes in the file after the header.

    Raises:
        MalformedHeader: it is not a safetensors header, or tensors lie outside of the file.
    """
    values = _parse_short(raw) if len(raw) <= _SHORT else _parse_long(raw)
    said = values.pop("__metadata__", {})
    if len(values) > _MAX_TENSORS:
        raise MalformedHeader(f"it has {len(values)} tensors; at most {_MAX_TENSORS} are read")
    entries = {key: _entry(key, value) for key, value in values.items()}
    faults = [*_text_faults(raw, said), *_size_faults(entries), *_placement_faults(entries, data_size)]
    texts = said.items() if isinstance(said, dict) else ()
    return Header(entries, {key: value for key, value in texts if isinstance(value, str)}, tuple(faults[:_MAX_FAULTS]))


def _parse_short(raw: bytes) -> dict[str, Any]:
    def refuse(_digits: str) -> None:
        raise MalformedHeader("its header has a number that is too long")

    # Python before 3.10.7 takes minutes to parse a number with millions of digits.
    hooks: dict[str, Any] = {}
    if _LONG_NUMBER.search(raw):
        hooks = {"parse_int": lambda digits: int(digits) if len(digits) < 20 else refuse(digits)}
    try:
        values = json.loads(raw.decode("utf-8"), **hooks)
    except MalformedHeader:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedHeader("its header is not the JSON of a safetensors file") from error
    if not isinstance(values, dict):
        raise MalformedHeader("its header is not the JSON of a safetensors file")
    return values


def _parse_long(raw: bytes) -> dict[str, Any]:
    """Parse member by member, so that 100 MB of tiny values are rejected after a few thousand of them."""
    try:
        values, rest = _members_of(raw.decode("utf-8"))
    except MalformedHeader:
        raise
    except ValueError as error:
        raise MalformedHeader("its header is not the JSON of a safetensors file") from error
    if rest.strip(" \t\r\n"):
        raise MalformedHeader("its header is not the JSON of a safetensors file")
    return values


def _members_of(text: str) -> tuple[dict[str, Any], str]:
    """Parse the members of the header's object; return them and the text after it."""
    values: dict[str, Any] = {}
    members = _Members(text, 0, _MAX_TENSORS + 1)
    for key, at in members:
        if key == "__metadata__" and text.startswith("{", at):
            values[key], members.at = _texts(text, at)
        else:
            end = text.find("}", at, at + _MAX_ENTRY_LENGTH) + 1
            values[key], members.at = _parse_short(text[at : end or at].encode()), end
    return values, text[members.at :]


class _Members:
    """Iterates over the members of a JSON object in a text: key and position of the value.

    Args:
        text: JSON text.
        at: position of the object; the caller must set it to the end of each member's value.
        most: maximum number of members.
    """

    def __init__(self, text: str, at: int, most: int) -> None:
        self._text = text
        self._most = most
        self.at = at

    def __iter__(self) -> Iterator[tuple[str, int]]:
        self.at = self._after("{", self.at)
        if self._text.startswith("}", self.at):
            self.at += 1
            return
        for _ in range(self._most):
            key, end = _string(self._text, self._after("", self.at))
            self.at = self._after(":", end)
            yield key, self.at
            self.at = self._after("", self.at)
            if self._text.startswith("}", self.at):
                self.at += 1
                return
            self.at = self._after(",", self.at)
        raise MalformedHeader(f"its header has more than {self._most} entries")

    def _after(self, mark: str, at: int) -> int:
        """The position after whitespace, ``mark`` and more whitespace."""
        start = self._after_space(at)
        if not self._text.startswith(mark, start):
            raise MalformedHeader("its header is not the JSON of a safetensors file")
        return self._after_space(start + len(mark)) if mark else start

    def _after_space(self, at: int) -> int:
        space = _SPACE.match(self._text, at)
        return space.end() if space else at


def _string(text: str, at: int) -> tuple[str, int]:
    """Parse the JSON string at a position; return it and its end.

    Raises:
        ValueError: there is no string.
    """
    if not text.startswith('"', at):
        raise MalformedHeader("its header is not the JSON of a safetensors file")
    value, end = _DECODER.raw_decode(text, at)
    return str(value), end


def _texts(text: str, at: int) -> tuple[dict[str, Any], int]:
    """Parse the metadata at a position; return it and its end. Values other than strings become None."""
    found: dict[str, Any] = {}
    members = _Members(text, at, _MAX_TEXTS)
    for key, start in members:
        if text.startswith('"', start):
            found[key], members.at = _string(text, start)
        else:
            simple = _SIMPLE.match(text, start)
            if simple is None:
                raise MalformedHeader("its metadata contains something other than strings")
            found[key], members.at = None, simple.end()
    return found, members.at


def _entry(key: str, value: Any) -> Entry:
    if not _is_whole(key):
        raise MalformedHeader("a key in its header is not valid text")
    if isinstance(value, dict):
        dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
        if isinstance(dtype, str) and isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2:
            # bool is a subclass of int, but not a valid size.
            are_sizes = all(type(number) is int and number >= 0 for number in (*shape, *offsets))
            if are_sizes and len(shape) <= _MAX_SIDES and offsets[0] <= offsets[1]:
                return Entry(dtype, tuple(shape), offsets[0], offsets[1])
    raise MalformedHeader(f"its header does not say where the tensor {printable(key)} is")


def _is_whole(text: str) -> bool:
    """Whether a text has no lone surrogate, which JSON can contain but UTF-8 cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _text_faults(raw: bytes, said: Any) -> Iterator[str]:
    if not raw.startswith(b"{"):
        yield "The header does not begin with {."
    if not isinstance(said, dict):
        yield "The metadata is not an object of strings."
        return
    for key, value in said.items():
        if not isinstance(value, str):
            yield f"The metadata value {printable(key)} is not a string."
        elif not (_is_whole(key) and _is_whole(value)):
            yield f"The metadata {printable(key)} contains half of a character (a lone surrogate)."


def _size_faults(entries: Mapping[str, Entry]) -> Iterator[str]:
    for key, entry in entries.items():
        if not entry.fits():
            sides = printable(list(entry.shape))
            yield f"The size of {printable(key)} does not fit its shape {sides} and type {printable(entry.dtype)}."


def _placement_faults(entries: Mapping[str, Entry], size: int) -> Iterator[str]:
    """Find gaps between tensors.

    Raises:
        MalformedHeader: tensors overlap or lie outside of the file.
    """
    at = 0
    has_gap = False
    for begin, end in sorted((entry.begin, entry.end) for entry in entries.values()):
        if begin < at:
            raise MalformedHeader("its tensors overlap")
        has_gap = has_gap or begin > at
        at = end
    if at > size:
        raise MalformedHeader(f"it is incomplete: {at - size} of its {at} bytes are missing at the end")
    if has_gap or at < size:
        yield "The file contains bytes that do not belong to any tensor."
