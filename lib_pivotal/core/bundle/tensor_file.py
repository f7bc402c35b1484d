"""A safetensors file, read and written piece by piece; hostile files cost neither time nor memory.

The safetensors library is not used for reading: its versions before 0.5 go through the whole header for every tensor,
which takes minutes for a header made to do so, and each version knows other number types.

Source: https://github.com/huggingface/safetensors, the description of the format in its README.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from lib_pivotal.core.bundle.file_kind import SAMPLE_BYTES, why_not_safetensors
from lib_pivotal.core.bundle.header import LONGEST_HEADER, NUMBER_TYPES, Entry, Header, MalformedHeader, parse_header
from lib_pivotal.core.printable import printable

__all__ = ["TensorFile", "Unreadable", "open_tensors", "write_tensors"]

_TYPE_NAMES = {torch_name: name for name, (_, torch_name) in NUMBER_TYPES.items()}
_PIECE = 2**20
_BLOCK = 2**22
"""Numbers that are looked at together."""


class Unreadable(ValueError):
    """The file, or a tensor in it, cannot be read.

    Args:
        reason: continues the sentence "X cannot be read: ".
        hint: what to do.
    """

    def __init__(self, reason: str, hint: str = "Download it again.") -> None:
        super().__init__(reason)
        self.hint = hint


class TensorFile:
    """An open file.

    Attributes:
        entries: tensors by key.
        metadata: texts; what is no text in the file is left out.
        faults: reasons why other programs refuse the file, see ``header.Header``.
    """

    def __init__(self, raw: BinaryIO, data_at: int, header: Header) -> None:
        self._raw = raw
        self._data_at = data_at
        self.entries: dict[str, Entry] = header.entries
        self.metadata = header.metadata
        self.faults = header.faults

    def read(self, key: str) -> torch.Tensor:
        """A tensor with memory of its own.

        Raises:
            Unreadable: this torch has no such number type, or the header's sizes do not agree.
            OSError: the file was taken away.
        """
        entry = self.entries[key]
        dtype = self._dtype(entry)
        length = entry.end - entry.begin
        if not length:
            return torch.zeros(entry.shape, dtype=dtype)
        self._raw.seek(self._data_at + entry.begin)
        return self._numbers(length, dtype).reshape(entry.shape)

    def blocks(self, key: str) -> Iterator[torch.Tensor]:
        """The numbers of a tensor in blocks of at most 4 million, each of shape ``(n,)``, so that memory is bounded.

        Raises:
            Unreadable: as :meth:`read`.
            OSError: as :meth:`read`.
        """
        entry = self.entries[key]
        dtype = self._dtype(entry)
        width, _ = NUMBER_TYPES[entry.dtype]
        for begin in range(entry.begin, entry.end, _BLOCK * width):
            self._raw.seek(self._data_at + begin)
            yield self._numbers(min(entry.end - begin, _BLOCK * width), dtype)

    def _dtype(self, entry: Entry) -> torch.dtype:
        _, name = NUMBER_TYPES.get(entry.dtype, (0, ""))
        dtype = getattr(torch, name, None)
        if not isinstance(dtype, torch.dtype):
            raise Unreadable(f"this torch has no numbers of the type {printable(entry.dtype[:20])}")
        if not entry.fits():
            raise Unreadable(f"its size does not fit its shape {list(entry.shape)}")
        return dtype

    def _numbers(self, length: int, dtype: torch.dtype) -> torch.Tensor:
        held = bytearray(self._raw.read(length))
        if len(held) != length:
            raise Unreadable("the file ends too early")
        return torch.frombuffer(held, dtype=dtype)

    def pieces(self, key: str) -> Iterator[bytes]:
        """The bytes of a tensor of any number type, in pieces of a MiB.

        Raises:
            Unreadable: the file ends too early.
        """
        entry = self.entries[key]
        self._raw.seek(self._data_at + entry.begin)
        left = entry.end - entry.begin
        while left:
            piece = self._raw.read(min(left, _PIECE))
            if not piece:
                raise Unreadable("the file ends too early")
            left -= len(piece)
            yield piece


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file and check its header.

    Raises:
        OSError: it cannot be opened.
        Unreadable: it is not a safetensors file; says what it seems to be.
    """
    if not path.is_file():
        message = "there is no such file"
        raise FileNotFoundError(message)
    with path.open("rb") as raw:
        size = path.stat().st_size
        length = int.from_bytes(raw.read(8), "little")
        begins_as_header = raw.read(1) in (b"{", b" ")
        if not (begins_as_header and 2 <= length <= min(size - 8, LONGEST_HEADER)):
            raw.seek(0)
            raise Unreadable(*why_not_safetensors(raw.read(SAMPLE_BYTES), size))
        raw.seek(8)
        try:
            header = parse_header(raw.read(length), size - 8 - length)
        except MalformedHeader as error:
            raise Unreadable(str(error)) from error
        yield TensorFile(raw, length + 8, header)


def write_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    copied: Mapping[str, tuple[TensorFile, str]] | None = None,
) -> None:
    """Write a file.

    Args:
        path: overwritten; give one that nobody reads yet.
        tensors: by key, on any device, of any shape.
        metadata: texts; half of a surrogate pair, which no program could read, becomes a question mark.
        copied: key → an open file and the key there, whose bytes are copied as they are.

    Raises:
        OSError: it cannot be written, or a source cannot be read.
        Unreadable: a source ends too early.
    """
    copied = copied or {}
    plan: dict[str, tuple[str, list[int], int]] = {}
    for key, value in tensors.items():
        name = _TYPE_NAMES[str(value.dtype).removeprefix("torch.")]
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
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
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
