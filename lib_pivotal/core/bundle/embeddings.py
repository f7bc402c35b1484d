"""Embeddings of any bundle, from any program: read lazily, checked and normalized.

No file contents make this module raise: whatever cannot be used becomes a problem that the user can read, and
everything else in the file stays usable. docs/bundle-format.md lists what is read.
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
    "paired_files",
    "parse_embeddings",
    "parse_tensor_file",
    "read_embeddings",
]


def read_embeddings(path: Path, *, with_paired: bool = False) -> BundledEmbeddings:
    """Read the embeddings of a bundle: first the header, then only their tensors.

    Args:
        path: the safetensors file.
        with_paired: also read files next to it, see :func:`paired_files`. Names in the bundle itself take precedence.
    """
    try:
        with open_tensors(path) as file:
            found = parse_tensor_file(file)
    except (OSError, Unreadable) as error:
        found = unreadable(path, error)
    return add_paired(path, found) if with_paired else found


def parse_tensor_file(file: TensorFile) -> BundledEmbeddings:
    """Like :func:`read_embeddings`, for an open file."""
    return _parse(group_keys(file.entries, file.metadata), list(file.entries), source_of_file(file))


def parse_embeddings(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> BundledEmbeddings:
    """Like :func:`read_embeddings`, for contents already loaded, for example by a host's safe ``.pt`` loader."""
    return _parse(group_keys(tensors, metadata), list(tensors), source_of_values(tensors))


def _parse(groups: KeyGroups, keys: Sequence[str], source: TensorSource) -> BundledEmbeddings:
    reader = EmbeddingReader()
    embeddings, used = reader.read(groups, source)
    positional = next((key for key in keys if is_positional_lora(key)), None)
    if groups.names and positional is not None:
        what = "The LoRA in this file cannot be used because its layers have no names; its embeddings can."
        reader.note(positional, "warning", what, "Convert it to the kohya format.")
    return BundledEmbeddings(embeddings, reader.problems, groups.keys, groups.keys - used)
