"""A safetensors file, read and written piece by piece; hostile headers cost neither time nor memory.

The safetensors library is not used for reading: its versions before 0.5 go through the whole header for every tensor,
which takes minutes for a header made to do so, and each version knows other number types.

Source: https://github.com/huggingface/safetensors, the description of the format in its README.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

__all__ = ["LONGEST_HEADER", "Entry", "TensorFile", "Unreadable", "open_tensors", "write_tensors"]

LONGEST_HEADER = 8 * 2**20
"""Bytes. A header is parsed as a whole; a large LoRA with long metadata has less than one MiB."""
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Number types of safetensors by torch's names; an old torch lacks some. Other types can be copied, no more."""
_NAMES = {torch_name: name for name, torch_name in _DTYPES.items()}
_LONG_NUMBER = re.compile(rb"\d{20}")
_PIECE = 2**20
_MOST_SIDES = 16
_MOST_TENSORS = 20_000
"""A LoRA of every layer of SDXL, the largest model here, has less than half of that."""


class Unreadable(ValueError):
    """The file, or a tensor in it, cannot be read; the text continues "… cannot be read: "."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        dtype: safetensors' name of the number type.
        shape: sides.
        begin: first byte, counted from the end of the header.
        end: byte after the last.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile:
    """An open file.

    Attributes:
        entries: tensors by key.
        metadata: texts; what is no text in the file is left out.
    """

    def __init__(self, raw: BinaryIO, data_at: int, entries: dict[str, Entry], metadata: dict[str, str]) -> None:
        self._raw = raw
        self._data_at = data_at
        self.entries = entries
        self.metadata = metadata

    def read(self, key: str) -> torch.Tensor:
        """A tensor with memory of its own.

        Raises:
            Unreadable: this torch has no such number type, or the header's sizes do not agree.
            OSError: the file was taken away.
        """
        entry = self.entries[key]
        dtype = getattr(torch, _DTYPES.get(entry.dtype, ""), None)
        if not isinstance(dtype, torch.dtype):
            message = f"this torch has no numbers of the type {entry.dtype[:20]}"
            raise Unreadable(message)
        length = math.prod(entry.shape) * torch.empty(0, dtype=dtype).element_size()
        if length != entry.end - entry.begin:
            message = f"its size does not fit its shape {list(entry.shape)}"
            raise Unreadable(message)
        if not length:
            return torch.zeros(entry.shape, dtype=dtype)
        self._raw.seek(self._data_at + entry.begin)
        held = bytearray(self._raw.read(length))
        if len(held) != length:
            message = "the file ends too early"
            raise Unreadable(message)
        return torch.frombuffer(held, dtype=dtype).reshape(entry.shape)

    def pieces(self, key: str) -> Iterator[bytes]:
        """The bytes of a tensor of any number type, in pieces of a MiB."""
        entry = self.entries[key]
        self._raw.seek(self._data_at + entry.begin)
        left = entry.end - entry.begin
        while left:
            piece = self._raw.read(min(left, _PIECE))
            if not piece:
                message = "the file ends too early"
                raise Unreadable(message)
            left -= len(piece)
            yield piece


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file and check its header.

    Raises:
        OSError: it cannot be opened.
        Unreadable: it is no safetensors file.
    """
    if not path.is_file():
        message = "there is no such file"
        raise FileNotFoundError(message)
    with path.open("rb") as raw:
        held = path.stat().st_size - 8
        length = int.from_bytes(raw.read(8), "little")
        if not 2 <= length <= held:
            message = f"its header should have {length} bytes, and the file has {max(held, 0)}"
            raise Unreadable(message)
        if length > LONGEST_HEADER:
            message = f"its header has {length >> 20} MiB; at most {LONGEST_HEADER >> 20} are read"
            raise Unreadable(message)
        header = _parse(raw.read(length))
        metadata = header.pop("__metadata__", None)
        texts = metadata.items() if isinstance(metadata, dict) else ()
        if len(header) > _MOST_TENSORS:
            message = f"it has {len(header)} tensors; at most {_MOST_TENSORS} are read"
            raise Unreadable(message)
        entries = {key: _entry(key, value) for key, value in header.items()}
        _check_places(entries, held - length)
        yield TensorFile(raw, length + 8, entries, {key: value for key, value in texts if isinstance(value, str)})


def _parse(raw: bytes) -> dict[str, Any]:
    def refuse(_digits: str) -> None:
        message = "its header has a number that is too long"
        raise Unreadable(message)

    # Python before 3.10.7 takes minutes for a number of millions of digits.
    hooks: dict[str, Any] = {}
    if _LONG_NUMBER.search(raw):
        hooks = {"parse_int": lambda digits: int(digits) if len(digits) < 20 else refuse(digits)}
    try:
        header = json.loads(raw.decode("utf-8"), **hooks)
        # Half a surrogate pair can be written as an escape, and then in no message and no file.
        json.dumps(list(header), ensure_ascii=False).encode("utf-8")
    except Unreadable:
        raise
    except (ValueError, RecursionError, TypeError) as error:
        message = "its header is no JSON of safetensors"
        raise Unreadable(message) from error
    if not isinstance(header, dict):
        message = "its header is no JSON of safetensors"
        raise Unreadable(message)
    return header


def _entry(key: str, value: Any) -> Entry:
    if isinstance(value, dict):
        dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
        if isinstance(dtype, str) and isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2:
            # A bool is an int too, but not in a file of sizes.
            are_sizes = all(type(number) is int and number >= 0 for number in (*shape, *offsets))
            if are_sizes and len(shape) <= _MOST_SIDES and offsets[0] <= offsets[1]:
                return Entry(dtype, tuple(shape), offsets[0], offsets[1])
    message = f"its header says nothing sensible of {key[:60]!a}"
    raise Unreadable(message)


def _check_places(entries: Mapping[str, Entry], size: int) -> None:
    at = 0
    for begin, end in sorted((entry.begin, entry.end) for entry in entries.values()):
        if begin < at or end > size:
            message = "its tensors overlap" if end <= size else "the file ends too early"
            raise Unreadable(message)
        at = end


def write_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    copied: Mapping[str, tuple[TensorFile, str]] | None = None,
) -> None:
    """Write a file.

    Args:
        path: overwritten; give one that nobody reads yet.
        tensors: by key, on any device.
        metadata: texts.
        copied: key → an open file and the key there, whose bytes are copied as they are.

    Raises:
        OSError: it cannot be written, or a source cannot be read.
        Unreadable: a source ends too early.
    """
    copied = copied or {}
    plan: dict[str, tuple[str, list[int], int]] = {}
    for key, value in tensors.items():
        name = _NAMES[str(value.dtype).removeprefix("torch.")]
        plan[key] = (name, list(value.shape), value.numel() * value.element_size())
    for key, (source, old) in copied.items():
        entry = source.entries[old]
        plan[key] = (entry.dtype, list(entry.shape), entry.end - entry.begin)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    # Wide numbers first, so that everything stays aligned to its own width.
    order = sorted(plan, key=lambda key: (-_width(plan[key]), key))
    at = 0
    for key in order:
        dtype, shape, length = plan[key]
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + length]}
        at += length
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little"))
        file.write(raw)
        for key in order:
            if key in copied:
                source, old = copied[key]
                file.writelines(source.pieces(old))
            else:
                held = tensors[key].detach().cpu().contiguous()
                file.write(held.reshape(-1).view(torch.uint8).numpy().tobytes())


def _width(planned: tuple[str, list[int], int]) -> int:
    _, shape, length = planned
    return length // max(math.prod(shape), 1)
