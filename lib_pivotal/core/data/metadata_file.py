"""Reads files with the captions of many images: metadata of kohya's scripts and of Hugging Face data sets."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lib_pivotal.core.data.caption_encoding import decode
from lib_pivotal.core.data.caption_json import caption_in, parse_json
from lib_pivotal.core.data.caption_match import alike

__all__ = ["MAX_BYTES", "Metadata", "MetadataFile", "UnusableMetadata", "read_metadata"]

MAX_BYTES = 64 * 2**20
"""Maximum size in bytes of all metadata files of a data folder together; 100,000 captions need about that."""

_FILE_NAME = "file_name"
"""Key of the path in Hugging Face's metadata files."""
_IMAGE_PATH = "image_path"
"""Key of the path in the JSON lines of kohya's scripts."""


class UnusableMetadata(Exception):
    """A metadata file that cannot be read; the message is a sentence that names it."""


@dataclass(frozen=True)
class MetadataFile:
    """Captions by path.

    Attributes:
        path: the file.
        is_hugging_face: whether caption files next to the images come before it.
        captions: path of an image as it is written there, relative to the file or not, with or without its suffix →
            caption; None if it says nothing about the image.
    """

    path: Path
    is_hugging_face: bool
    captions: Mapping[str, str | None]


def read_metadata(path: Path, shown: str, *, limit: int, encoding: str) -> tuple[MetadataFile | None, int]:
    """Read a JSON, JSON lines or CSV file.

    Args:
        path: the file.
        shown: its name for messages.
        limit: maximum size in bytes.
        encoding: encoding of files that are not Unicode; empty if it is unknown.

    Returns:
        Its captions, or None if it is something else; and its size in bytes.

    Raises:
        UnusableMetadata: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UnusableMetadata(f"{shown} cannot be read ({error.strerror or error}).") from error
    if len(data) > limit:
        raise UnusableMetadata(f"{shown} is not read, because it is too large.")
    text = decode(data, encoding)
    if text is None:
        raise UnusableMetadata(f"{shown} is not Unicode text.")
    kind = path.suffix.lower()
    found = {".json": _from_json, ".jsonl": _from_lines, ".csv": _from_table}[kind](text, shown)
    if found is None:
        return None, len(data)
    is_hugging_face, captions = found
    return MetadataFile(path, is_hugging_face, captions), len(data)


_Found = tuple[bool, dict[str, str | None]]


def _from_json(text: str, shown: str) -> _Found | None:
    """An object of paths, as kohya's scripts write it."""
    try:
        value = parse_json(text)
    except ValueError as error:
        raise UnusableMetadata(f"{shown} is not JSON ({error}).") from error
    if not isinstance(value, Mapping):
        return None
    captions = {path: caption_in(item, is_board=False) for path, item in value.items()}
    has_entries = any(isinstance(item, Mapping) and captions[path] for path, item in value.items())
    # An object of texts may be anything, unless its keys are images.
    has_images = any(isinstance(item, str) and PurePosixPath(path).suffix for path, item in value.items())
    return (False, captions) if has_entries or has_images else None


def _from_lines(text: str, shown: str) -> _Found | None:
    captions: dict[str, str | None] = {}
    keys: Counter[str] = Counter()
    broken: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except ValueError:
            broken.append(number)
            continue
        key = next((key for key in (_IMAGE_PATH, _FILE_NAME) if _has_path(value, key)), "")
        if key:
            keys[key] += 1
            captions.setdefault(value[key], caption_in(value, is_board=False))
    if broken:
        raise UnusableMetadata(f"Line {broken[0]} of {shown} is not JSON.")
    return (not keys[_IMAGE_PATH], captions) if any(captions.values()) else None


def _has_path(value: Any, key: str) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get(key), str)


def _from_table(text: str, shown: str) -> _Found | None:
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UnusableMetadata(f"{shown} is not a table ({error}).") from error
    captions = {row[_FILE_NAME]: caption_in(row, is_board=False) for row in rows if row.get(_FILE_NAME)}
    return (True, captions) if any(captions.values()) else None


class Metadata:
    """Finds the entries of images.

    A path counts as it is written, relative to the metadata file or absolute. Where no such image exists, as after
    moving to another machine, the name alone counts if it is unique.

    Args:
        files: metadata files.
        images: all images of the data folder.
    """

    def __init__(self, files: Sequence[MetadataFile], images: Iterable[Path]) -> None:
        names = [path.name for path in images]
        self._names = Counter(alike(name) for name in names)
        self._stems = Counter(alike(PurePosixPath(name).stem) for name in names)
        self._tables = [_Table(file) for file in files]

    def find(self, image: Path) -> list[tuple[MetadataFile, str]]:
        """Metadata files with a caption of an image, and the captions."""
        found = []
        for table in self._tables:
            caption = table.find(image, _if_unique(image.name, self._names), _if_unique(image.stem, self._stems))
            if caption is not None:
                found.append((table.file, caption))
        return found

    def unused(self) -> list[tuple[MetadataFile, int, int]]:
        """Each file with its number of entries, and how many of them no image has asked for."""
        return [(table.file, len(table.file.captions), table.unused) for table in self._tables]


def _if_unique(name: str, counts: Counter[str]) -> str:
    """The normalized name if one image has it; otherwise empty."""
    key = alike(name)
    return key if counts[key] == 1 else ""


class _Table:
    """The entries of a metadata file by path and by name."""

    def __init__(self, file: MetadataFile) -> None:
        self.file = file
        self._by_path = {_plain(path): path for path in reversed(list(file.captions))}
        self._by_name: dict[str, str] = {}
        ambiguous = set()
        for plain, path in self._by_path.items():
            name = alike(plain.rpartition("/")[2])
            if self._by_name.setdefault(name, path) != path:
                ambiguous.add(name)
        for name in ambiguous:
            del self._by_name[name]
        self._used: set[str] = set()

    @property
    def unused(self) -> int:
        return len(self.file.captions) - len(self._used)

    def find(self, image: Path, name: str, stem: str) -> str | None:
        """The caption of an image.

        Args:
            image: its path.
            name: its normalized file name if no other image has it; otherwise empty.
            stem: likewise, without the suffix.
        """
        key = self._key(image, name, stem)
        if key is None:
            return None
        self._used.add(key)
        return self.file.captions[key]

    def _key(self, image: Path, name: str, stem: str) -> str | None:
        folder = self.file.path.parent
        is_below = folder in image.parents
        for path in ([image.relative_to(folder)] if is_below else []) + [image]:
            for written in (path, path.with_suffix("")):
                key = self._by_path.get(unicodedata.normalize("NFC", written.as_posix()))
                if key is not None:
                    return key
        if not is_below:
            return None
        return self._by_name.get(name) or self._by_name.get(stem)


def _plain(path: str) -> str:
    """A path with ``/`` between its parts."""
    return unicodedata.normalize("NFC", path.replace("\\", "/").removeprefix("./"))
