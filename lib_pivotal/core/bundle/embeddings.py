"""Embeddings of any bundle, whoever wrote it: read lazily, checked, and brought to one form.

Nothing that a file holds makes this module raise: what cannot be used becomes a problem for the user to read, and
everything else in the file stays usable. docs/bundle-format.md says what is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.intake import MOST_EMBEDDINGS, Intake, check_name, shown_name
from lib_pivotal.core.bundle.layout import KeyGroups, choose_parts, group_file_keys, group_keys, is_positional_lora
from lib_pivotal.core.bundle.metadata import embedding_hash
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable, open_tensors
from lib_pivotal.core.bundle.values import Refused, check_shapes, normalised
from lib_pivotal.core.errors import Problem

__all__ = [
    "BundledEmbedding",
    "BundledEmbeddings",
    "has_embeddings",
    "paired_files",
    "parse_embeddings",
    "parse_file_embedding",
    "parse_tensor_file",
    "read_embeddings",
    "read_file_embedding",
]

_MOST_REASONS = 8
_UNOPENABLE = (OSError, Unreadable)
_UNFETCHABLE = (*_UNOPENABLE, RuntimeError, TypeError)
"""Torch has number types that it cannot convert."""


@dataclass(frozen=True)
class BundledEmbedding:
    """One embedding.

    Attributes:
        name: as in the file.
        encoders: encoder name → fp32 on the CPU, contiguous, finite, shape ``(n, width)``.
        hash: 12 hex digits that depend on the values only.
        vector_count: n, 1 … 75.
    """

    name: str
    encoders: Mapping[str, torch.Tensor]
    hash: str
    vector_count: int

    @classmethod
    def of(cls, name: str, encoders: Mapping[str, torch.Tensor]) -> BundledEmbedding:
        """From checked vectors, each of shape ``(n, width)``."""
        count = int(next(iter(encoders.values())).shape[0])
        return cls(name, dict(encoders), embedding_hash(encoders)[:12], count)


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
    keys: frozenset[str]
    unused: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True)
class _Source:
    """Where shapes and tensors come from: a file that is read as needed, or a dictionary."""

    shape: Callable[[str], Sequence[int]]
    fetch: Callable[[str], torch.Tensor]


def _source(file: TensorFile) -> _Source:
    return _Source(lambda key: file.entries[key].shape, file.read)


def _unreadable(path: Path, error: Exception) -> BundledEmbeddings:
    text = f"The embeddings of {shown_name(path.name)} cannot be read ({shown_name(str(error))})."
    return BundledEmbeddings({}, [Problem(shown_name(path.name), "error", text, "Fetch the file again.")], frozenset())


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
        with_paired: also those of files beside it, see :func:`paired_files`. Names in the bundle itself come first.
    """
    try:
        with open_tensors(path) as file:
            found = parse_tensor_file(file)
    except _UNOPENABLE as error:
        found = _unreadable(path, error)
    return _with_paired(path, found) if with_paired else found


def parse_tensor_file(file: TensorFile) -> BundledEmbeddings:
    """The same for a file that is open already."""
    return _parse(group_keys(file.entries, file.metadata), list(file.entries), _source(file))


def parse_embeddings(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> BundledEmbeddings:
    """The same for contents that somebody else has read, such as a host by its safe loader for ``.pt``."""
    return _parse(group_keys(tensors, metadata), list(tensors), _of_dictionary(tensors))


def read_file_embedding(path: Path, name: str) -> BundledEmbeddings:
    """The embedding of an ordinary embedding file, which has no name inside; ``keys`` is empty."""
    try:
        with open_tensors(path) as file:
            found = _parse(group_file_keys(file.entries, name), [], _source(file))
    except _UNOPENABLE as error:
        found = _unreadable(path, error)
    return BundledEmbeddings(found.embeddings, found.problems, frozenset())


def parse_file_embedding(tensors: Mapping[str, Any], name: str) -> BundledEmbeddings:
    """The same for contents that somebody else has read."""
    found = _parse(group_file_keys(tensors, name), [], _of_dictionary(tensors))
    return BundledEmbeddings(found.embeddings, found.problems, frozenset())


def _of_dictionary(tensors: Mapping[str, Any]) -> _Source:
    def shape(key: str) -> Sequence[int]:
        if not isinstance(tensors[key], torch.Tensor):
            raise Refused("its values are no tensor")
        return tuple(tensors[key].shape)

    return _Source(shape, lambda key: tensors[key])


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in tensors.items()}


@contextlib.contextmanager
def _noted(intake: Intake, name: str) -> Iterator[None]:
    """Within the context an embedding that cannot be used is noted, and the next one has its turn."""
    try:
        yield
    except Refused as refusal:
        intake.refuse(name, refusal.reason, refusal.hint)
    except _UNFETCHABLE as error:
        intake.refuse(name, f"its data cannot be read ({shown_name(str(error))})")


def _parse(groups: KeyGroups, keys: Sequence[str], source: _Source) -> BundledEmbeddings:
    """Judge everything by the header first, then read what is left."""
    intake = Intake()
    for key, reason in groups.odd.items():
        intake.refuse(key, reason)
    positional = next((key for key in keys if is_positional_lora(key)), None)
    if groups.parts and positional is not None:
        what = "The LoRA in this file cannot be used, since its layers have no names; its embeddings can."
        intake.tell(positional, "warning", what, "Convert it to the kohya form.")
    wanted: dict[str, dict[str, str]] = {}
    for name, ends in groups.parts.items():
        with _noted(intake, name):
            wanted[name] = _judge(name, ends, source, intake)
    embeddings: dict[str, BundledEmbedding] = {}
    used: set[str] = set()
    for name, encoders in wanted.items():
        ends = groups.parts[name]
        with _noted(intake, name):
            vectors = normalised({end: source.fetch(ends[end]) for end in encoders}, encoders)
            embeddings[name] = BundledEmbedding.of(name, vectors)
            used.update(ends[end] for end in encoders)
    return BundledEmbeddings(embeddings, intake.problems, groups.keys, groups.keys - used)


def _judge(name: str, ends: Mapping[str, str], source: _Source, intake: Intake) -> dict[str, str]:
    """The ends of a name that are to be read → their encoders.

    Raises:
        Refused: the embedding cannot be used.
    """
    check_name(name)
    parts = choose_parts(ends)
    reasons = [f"{shown_name(end)} is left out ({why})" for end, why in sorted(parts.left_out.items())]
    reason = "; ".join(reasons[:_MOST_REASONS]) + ("; and more" if len(reasons) > _MOST_REASONS else "")
    if not parts.used:
        raise Refused(f"it has no vectors for Stable Diffusion 1, 2 or XL: {reason}")
    shapes = {end: [int(side) for side in source.shape(ends[end])] for end in parts.used}
    check_shapes(shapes)
    intake.claim(name, shapes)
    if reason:
        intake.tell(name, "warning", f"Of the embedding {shown_name(name)!r}, {reason}.")
    return parts.used


def paired_files(path: Path) -> list[Path]:
    """Embedding files that belong to a LoRA by their names.

    Source: diffusers' advanced dreambooth scripts write ``NAME_emb.safetensors``, OneTrainer ``NAME_embeddings/``.
    """
    beside = path.with_name(f"{path.stem}_emb.safetensors")
    folder = path.with_name(f"{path.stem}_embeddings")
    listed = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return [*([beside] if beside.is_file() else []), *listed[:MOST_EMBEDDINGS]]


def _with_paired(path: Path, found: BundledEmbeddings) -> BundledEmbeddings:
    intake = Intake()
    embeddings = dict(found.embeddings)
    for item in embeddings.values():
        intake.claim(item.name, _shapes(item.encoders))
    problems = list(found.problems)
    for paired in paired_files(path):
        has_rows = paired.parent == path.parent
        read = read_file_embedding(paired, path.stem if has_rows else paired.stem)
        problems += read.problems
        for whole in read.embeddings.values():
            for item in [whole, *(_rows(whole) if has_rows else ())]:
                with _noted(intake, item.name):
                    intake.claim(item.name, _shapes(item.encoders))
                    embeddings[item.name] = item
    return BundledEmbeddings(embeddings, problems + intake.problems, found.keys, found.unused)


def _rows(whole: BundledEmbedding) -> Iterator[BundledEmbedding]:
    """Every vector as a word of its own.

    Source: diffusers' advanced dreambooth scripts, which add the tokens ``<s0>``, ``<s1>``, … in this order.
    """
    for number in range(whole.vector_count):
        rows = {encoder: table[number : number + 1].clone() for encoder, table in whole.encoders.items()}
        yield BundledEmbedding.of(f"<s{number}>", rows)
