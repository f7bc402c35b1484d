"""Reads embedding files (without a LoRA) of every known program, and determines their names."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.embedding_image import read_embedding_image
from lib_pivotal.core.bundle.embedding_reader import (
    BundledEmbeddings,
    EmbeddingReader,
    TensorSource,
    source_of_file,
    source_of_values,
    unreadable,
)
from lib_pivotal.core.bundle.layout import KeyGroups, group_file_keys
from lib_pivotal.core.bundle.names import IMAGE_SUFFIXES, file_stem_for
from lib_pivotal.core.bundle.network_kind import find_network, other_subject
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable, open_tensors
from lib_pivotal.core.bundle.values import MAX_VECTORS, MAX_WIDTH, Rejected
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = [
    "SafeLoader",
    "embedding_name",
    "name_metadata",
    "parse_embedding_file",
    "read_embedding_file",
]

SafeLoader = Callable[[Path], Mapping[str, Any]]
"""Reads a ``.pt`` or ``.bin`` file without running any code in it."""
_PICKLED = (".pt", ".bin")
_NAME_KEY = "pivotal_embedding"


def name_metadata(name: str) -> dict[str, str]:
    """Metadata of a file with one embedding: its name, which may not be possible as a file name."""
    return {_NAME_KEY: json.dumps({"version": 1, "name": name}, ensure_ascii=False)}


def embedding_name(path: Path) -> str:
    """The default name of the embedding in a file.

    It is the file name without suffix, as in webuis. A name stored inside the file takes precedence: in an image
    always, in a safetensors file only while the file has the name that we would give it.
    """
    try:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            inside = read_embedding_image(path).get("name")
            return inside if isinstance(inside, str) and inside.strip() else path.stem
        with open_tensors(path) as file:
            return _own_name(file.metadata, path.stem)
    except (OSError, Unreadable, Rejected):
        return path.stem


def _own_name(metadata: Mapping[str, str], stem: str) -> str:
    try:
        name = json.loads(metadata[_NAME_KEY])["name"]
        # Renaming the file renames the embedding. macOS stores accents separately from their letters.
        composed = unicodedata.normalize("NFC", stem)
        is_named_after = re.fullmatch(rf"{re.escape(file_stem_for(name))}(-\d+)?", composed, re.IGNORECASE) is not None
    except (KeyError, TypeError, ValueError, RecursionError):
        return stem
    return name if is_named_after else stem


def read_embedding_file(path: Path, name: str, load_other: SafeLoader | None = None) -> BundledEmbeddings:
    """Read a file that contains a single embedding, in any format of docs/bundle-format.md.

    A file with several tokens, as written by diffusers, cloneofsimo's LoRA and others, becomes one embedding that
    contains the vectors of all tokens in order.

    Args:
        path: the file.
        name: name for the embedding.
        load_other: reads ``.pt`` and ``.bin`` files that are pickles; None rejects them.

    Returns:
        The embedding, or a problem that names the file; ``keys`` is empty.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in IMAGE_SUFFIXES:
            return _parse_values(_flat(read_embedding_image(path)), path, name)
        with open_tensors(path) as file:
            return parse_embedding_file(file, path, name)
    except Rejected as rejected:
        return _rejected(path, f"{rejected.reason[:1].upper()}{rejected.reason[1:]}.", rejected.hint)
    except OSError as error:
        return unreadable(path, error)
    except Unreadable as error:
        return _read_pickled(path, name, load_other) if suffix in _PICKLED else unreadable(path, error)


def _read_pickled(path: Path, name: str, load_other: SafeLoader | None) -> BundledEmbeddings:
    if load_other is None:
        return _rejected(path, "A pickle cannot be read here.", "Convert it to safetensors first.")
    try:
        return _parse_values(_flat(load_other(path)), path, name)
    except Exception as error:
        # An external loader of untrusted files may raise anything.
        return _rejected(
            path, f"It cannot be read safely ({type(error).__name__}).", "Use a .safetensors version of it."
        )


def _flat(contents: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors of a ``.pt`` file or an image, under the keys of the safetensors format; everything else is dropped.

    Args:
        contents: stored values; tensors of any shape may be nested one level deep.

    Host: modules/textual_inversion/textual_inversion.py, ``Embedding.save``, A1111 1.6.1-1.10.1: tensors are under
        ``string_to_param`` by the token that stood for them.
    """
    flat: dict[str, torch.Tensor] = {}
    for key, value in contents.items():
        if isinstance(value, torch.Tensor):
            flat[str(key)] = value
        elif hasattr(value, "items"):
            flat.update({f"{key}.{suffix}": item for suffix, item in value.items() if isinstance(item, torch.Tensor)})
    return flat


def parse_embedding_file(file: TensorFile, path: Path, name: str = "") -> BundledEmbeddings:
    """Like :func:`read_embedding_file`, for an open safetensors file.

    Args:
        file: the open file.
        path: its path, for messages.
        name: name for the embedding; empty uses the file's default.
    """
    own = name or _own_name(file.metadata, path.stem)
    return _parse(file.entries, source_of_file(file), path, own)


def _parse_values(tensors: Mapping[str, Any], path: Path, name: str) -> BundledEmbeddings:
    return _parse(tensors, source_of_values(tensors), path, name)


def _parse(keys: Iterable[str], source: TensorSource, path: Path, name: str) -> BundledEmbeddings:
    keys = list(keys)
    groups = group_file_keys(keys, name)
    if not groups.names:
        tokens = _tokens(keys, source)
        if not tokens:
            return _rejected(path, f"It is not an embedding file: {_what_it_is(keys)}.", "Choose another file.")
        groups, source = KeyGroups({name: {"emb_params": name}}, {}), _joined(tokens, source)
    reader = EmbeddingReader()
    embeddings, _ = reader.read(groups, source)
    return BundledEmbeddings(embeddings, [_of_file(path, problem) for problem in reader.problems])


def _of_file(path: Path, problem: Problem) -> Problem:
    return Problem(printable(path.name), problem.severity, problem.message, problem.hint)


def _what_it_is(keys: list[str]) -> str:
    network = find_network(keys)
    if network.modules:
        return f"it is a {network.modules[0].kind.name}"
    subject = other_subject(network.others)
    return f"it is {subject}" if subject else "its keys are of an unknown kind" if keys else "it contains no tensors"


def _tokens(keys: Iterable[str], source: TensorSource) -> list[str]:
    """The keys in order if each is a token and all vectors have the same width, else nothing."""
    ordered = sorted(keys, key=lambda key: [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part)
                                            for part in re.split(r"(\d{1,9})", key)])  # fmt: skip
    if not 2 <= len(ordered) <= MAX_VECTORS or find_network(ordered).modules or other_subject(ordered):
        return []
    try:
        shapes = [tuple(source.shape(key)) for key in ordered]
    except Rejected:
        return []
    are_vectors = all(len(shape) in (1, 2) for shape in shapes) and len({shape[-1:] for shape in shapes}) == 1
    # Anything narrower is part of a model.
    return ordered if are_vectors and 256 <= shapes[0][-1] <= MAX_WIDTH else []


def _joined(tokens: list[str], source: TensorSource) -> TensorSource:
    """A source with a single tensor that concatenates the vectors of the tokens."""

    def rows() -> Iterator[torch.Tensor]:
        for token in tokens:
            value = source.fetch(token)
            yield value.unsqueeze(0) if value.ndim == 1 else value

    shapes = [tuple(source.shape(token)) for token in tokens]
    count = sum(shape[0] if len(shape) == 2 else 1 for shape in shapes)
    return TensorSource(lambda _key: (count, shapes[0][-1]), lambda _key: torch.cat(list(rows())))


def _rejected(path: Path, text: str, hint: str) -> BundledEmbeddings:
    return BundledEmbeddings({}, [Problem(printable(path.name), "error", text, hint)])
