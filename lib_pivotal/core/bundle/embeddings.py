"""Embeddings of any bundle, whoever wrote it: read lazily, checked, and brought to one form.

Nothing that a file holds makes this module raise: what cannot be used becomes a problem for the user to read, and
everything else in the file stays usable. docs/bundle-format.md says what is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_pivotal.core.bundle.embedding_reader import (
    BundledEmbedding,
    BundledEmbeddings,
    EmbeddingReader,
    TensorSource,
    source_of_file,
    source_of_values,
    unreadable,
)
from lib_pivotal.core.bundle.layout import KeyGroups, group_keys, is_positional_lora
from lib_pivotal.core.bundle.paired_files import add_paired, paired_files
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable, open_tensors

__all__ = [
    "BundledEmbedding",
    "BundledEmbeddings",
    "has_embeddings",
    "paired_files",
    "parse_embeddings",
    "parse_tensor_file",
    "read_embeddings",
]

_UNOPENABLE = (OSError, Unreadable)


def has_embeddings(path: Path) -> bool:
    """Whether a file holds keys of embeddings; reads its header only, False for an unreadable one."""
    try:
        with open_tensors(path) as file:
            return bool(group_keys(file.entries, file.metadata).keys)
    except _UNOPENABLE:
        return False


def read_embeddings(path: Path, *, with_paired: bool = False) -> BundledEmbeddings:
    """Embeddings of a bundle; header first, then only their own tensors.

    Args:
        path: safetensors file.
        with_paired: also those of files next to it, see :func:`paired_files`. Names in the bundle itself come first.
    """
    try:
        with open_tensors(path) as file:
            found = parse_tensor_file(file)
    except _UNOPENABLE as error:
        found = unreadable(path, error)
    return add_paired(path, found) if with_paired else found


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
