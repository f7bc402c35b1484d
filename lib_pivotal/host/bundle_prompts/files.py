"""Bundle files on disk: their state, and their embeddings, which are read once for each state."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from lib_pivotal.core.bundle.embeddings import BundledEmbeddings, read_embeddings

__all__ = ["BundleFiles", "FileState", "FileStates", "file_state"]

_KEPT = 64
"""Files whose embeddings stay in memory; the smallest have a few KiB, the largest 64 MiB."""
_KEPT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class FileState:
    """What changes when a file is replaced.

    Attributes:
        path: resolved, so that two paths to one file are equal.
        modified_ns: time of the last change.
        size: in bytes.
    """

    path: str
    modified_ns: int
    size: int


def file_state(path: str) -> FileState | None:
    """The state of a file now, or None if there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return FileState(os.path.realpath(path), found.st_mtime_ns, found.st_size)


class FileStates:
    """Remembers in which state files were when they were read, until they change."""

    def __init__(self) -> None:
        self._states: dict[str, FileState | None] = {}

    def note(self, path: str, state: FileState | None) -> None:
        """Remember that a file was read in a state; None if there was no such file."""
        self._states[path] = state

    def have_changed(self) -> bool:
        """Whether one of the files is in another state now; such files are forgotten."""
        changed = [path for path, state in list(self._states.items()) if file_state(path) != state]
        for path in changed:
            self._states.pop(path, None)
        return bool(changed)


class BundleFiles:
    """Reads embeddings and keeps them by file state; several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[FileState, bool], BundledEmbeddings] = OrderedDict()

    def read(self, path: str, *, with_paired: bool = False) -> BundledEmbeddings:
        """The embeddings of a LoRA file; empty for a plain LoRA, a missing file and one that is not a safetensors file.

        Args:
            path: of the LoRA file.
            with_paired: include the embedding files next to it that belong to it by their names.
        """
        state = file_state(path)
        if state is None or not path.lower().endswith(".safetensors"):
            return BundledEmbeddings({}, [], frozenset())
        key = (state, with_paired)
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        # Files next to the LoRA are read each time: they may change without it.
        read = read_embeddings(Path(path), with_paired=with_paired)
        if with_paired:
            return read
        with self._lock:
            self._known[key] = read
            while len(self._known) > _KEPT or sum(map(_size, self._known.values())) > _KEPT_BYTES:
                self._known.popitem(last=False)
        return read


def _size(read: BundledEmbeddings) -> int:
    return sum(value.numel() * 4 for item in read.embeddings.values() for value in item.encoders.values())
