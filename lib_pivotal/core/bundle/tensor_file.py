"""Reads and writes safetensors files piece by piece; malicious files cannot waste time or memory.

The safetensors library is not used for reading: versions before 0.5 scan the whole header for every tensor,
which takes minutes for a malicious header, and supported dtypes differ between versions.

Source: https://github.com/huggingface/safetensors, the description of the format in its README.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.file_kind import SAMPLE_BYTES, why_not_safetensors
from lib_pivotal.core.bundle.header import MAX_HEADER_BYTES, NUMBER_TYPES, Entry, Header, MalformedHeader, parse_header
from lib_pivotal.core.printable import printable

__all__ = ["TensorFile", "Unreadable", "open_tensors", "write_tensors"]

_TYPE_NAMES = {torch_name: name for name, (_, torch_name) in NUMBER_TYPES.items()}
_PIECE = 2**20
_BLOCK = 2**22
"""Number of values read at a time."""


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
        entries: key → tensor entry.
        metadata: metadata strings; other values are left out.
        faults: reasons why other programs reject the file, see ``header.Header``.
    """

    def __init__(self, raw: BufferedReader, data_at: int, header: Header) -> None:
        self._raw = raw
        self._data_at = data_at
        self.entries: dict[str, Entry] = header.entries
        self.metadata = header.metadata
        self.faults = header.faults

    def close(self) -> None:
        """Close the file before the end of the context; nothing can be read any more."""
        self._raw.close()

    def read(self, key: str) -> torch.Tensor:
        """Read a tensor into its own memory.

        Raises:
            Unreadable: torch lacks the dtype, or the sizes in the header are inconsistent.
            OSError: the file is no longer accessible.
        """
        entry = self.entries[key]
        dtype = self._dtype(entry)
        length = entry.end - entry.begin
        if not length:
            return torch.zeros(entry.shape, dtype=dtype)
        self._raw.seek(self._data_at + entry.begin)
        return self._numbers(length, dtype).reshape(entry.shape)

    def blocks(self, key: str) -> Iterator[torch.Tensor]:
        """Read the values of a tensor in blocks of at most 4 million, each of shape ``(n,)``, to bound memory.

        Raises:
            Unreadable: see :meth:`read`.
            OSError: see :meth:`read`.
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
            raise Unreadable(f"this version of torch does not support the dtype {printable(entry.dtype[:20])}")
        if not entry.fits():
            raise Unreadable(f"its size does not fit its shape {list(entry.shape)}")
        return dtype

    def _numbers(self, length: int, dtype: torch.dtype) -> torch.Tensor:
        held = bytearray(length)
        if self._raw.readinto(held) != length:
            raise Unreadable("the file ends too early")
        return torch.frombuffer(held, dtype=dtype)

    def pieces(self, key: str) -> Iterator[bytes]:
        """Read the bytes of a tensor of any dtype in pieces of 1 MiB.

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
        Unreadable: it is not a safetensors file; the message says what it seems to be.
    """
    if not path.is_file():
        message = "there is no such file"
        raise FileNotFoundError(message)
    with path.open("rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        length = int.from_bytes(raw.read(8), "little")
        begins_as_header = raw.read(1) in (b"{", b" ")
        if not (begins_as_header and 2 <= length <= min(size - 8, MAX_HEADER_BYTES)):
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
        path: the file; overwritten, so it must not be in use.
        tensors: key → tensor of any shape, on any device.
        metadata: strings; a lone surrogate, which no program could read, becomes a question mark.
        copied: key → an open file and the key in it, whose bytes are copied unchanged.

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
    # Wide dtypes first, so that every tensor stays aligned.
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
                file.write(held.reshape(-1).view(torch.uint8).numpy().data)


def _width(planned: tuple[str, list[int], int]) -> int:
    _, shape, length = planned
    return length // max(math.prod(shape), 1)
