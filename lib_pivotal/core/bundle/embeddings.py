"""Embeddings of any bundle, whoever wrote it: read lazily, checked, and brought to one form.

Nothing that a file holds makes this module raise: what cannot be used becomes a problem for the user to read, and
everything else in the file stays usable. docs/bundle-format.md says what is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.embedding_reader import BundledEmbedding, EmbeddingReader, TensorSource
from lib_pivotal.core.bundle.layout import KeyGroups, group_keys, is_positional_lora
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable, open_tensors
from lib_pivotal.core.bundle.values import Rejected
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = [
    "BundledEmbedding",
    "BundledEmbeddings",
    "has_embeddings",
    "parse_embeddings",
    "parse_tensor_file",
    "read_embeddings",
    "source_of_file",
    "source_of_values",
    "unreadable",
]

_UNOPENABLE = (OSError, Unreadable)


@dataclass(frozen=True)
class BundledEmbeddings:
    """What a file holds of embeddings.

    Attributes:
        embeddings: by name, sorted by key.
        problems: what could not be used, and why; its field is the name or key, shortened.
        keys: every key of the file that is about embeddings, used or not.
        unused: those of them whose tensors are not in ``embeddings``.
    """

    embeddings: dict[str, BundledEmbedding]
    problems: list[Problem]
    keys: frozenset[str] = field(default=frozenset())
    unused: frozenset[str] = field(default=frozenset())


def source_of_file(file: TensorFile) -> TensorSource:
    """Shapes and tensors of an open file."""
    return TensorSource(lambda key: file.entries[key].shape, file.read)


def source_of_values(tensors: Mapping[str, Any]) -> TensorSource:
    """Shapes and tensors of a dictionary, in which there may be something else, too."""

    def shape(key: str) -> Sequence[int]:
        if not isinstance(tensors[key], torch.Tensor):
            raise Rejected("its values are not a tensor")
        return tuple(tensors[key].shape)

    return TensorSource(shape, lambda key: tensors[key])


def unreadable(path: Path, error: Exception) -> BundledEmbeddings:
    """The answer for a file that could not be opened."""
    text = f"The embeddings of {printable(path.name)} cannot be read: {printable(error, 200)}."
    hint = error.hint if isinstance(error, Unreadable) else "Check the path."
    return BundledEmbeddings({}, [Problem(printable(path.name), "error", text, hint)])


def has_embeddings(path: Path) -> bool:
    """Whether a file holds keys of embeddings; reads its header only, False for an unreadable one."""
    try:
        with open_tensors(path) as file:
            return bool(group_keys(file.entries, file.metadata).keys)
    except _UNOPENABLE:
        return False


def read_embeddings(path: Path) -> BundledEmbeddings:
    """Embeddings of a bundle; header first, then only their own tensors.

    Args:
        path: safetensors file.
    """
    try:
        with open_tensors(path) as file:
            return parse_tensor_file(file)
    except _UNOPENABLE as error:
        return unreadable(path, error)


def parse_tensor_file(file: TensorFile) -> BundledEmbeddings:
    """The same for a file that is open already."""
    return _parse(group_keys(file.entries, file.metadata), list(file.entries), source_of_file(file))


def parse_embeddings(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> BundledEmbeddings:
    """The same for contents that somebody else has read, such as a host by its safe loader for ``.pt``."""
    return _parse(group_keys(tensors, metadata), list(tensors), source_of_values(tensors))


def _parse(groups: KeyGroups, keys: Sequence[str], source: TensorSource) -> BundledEmbeddings:
    reader = EmbeddingReader()
    embeddings, used = reader.read(groups, source)
    positional = next((key for key in keys if is_positional_lora(key)), None)
    if groups.names and positional is not None:
        what = "The LoRA in this file cannot be used, since its layers have no names; its embeddings can."
        reader.note(positional, "warning", what, "Convert it to the kohya form.")
    return BundledEmbeddings(embeddings, reader.problems, groups.keys, groups.keys - used)
