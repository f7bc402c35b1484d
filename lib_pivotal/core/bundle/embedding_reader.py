"""Reads embeddings from any source, with limits on number and size, and records what was left out and why."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.layout import KeyGroups, choose_suffixes
from lib_pivotal.core.bundle.names import token_key, why_untypable
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable
from lib_pivotal.core.bundle.values import Rejected, byte_count, check_shapes, embedding_hash, normalized
from lib_pivotal.core.errors import Problem, Severity
from lib_pivotal.core.printable import printable

__all__ = [
    "MAX_EMBEDDINGS",
    "BundledEmbedding",
    "BundledEmbeddings",
    "EmbeddingReader",
    "TensorSource",
    "source_of_file",
    "source_of_values",
    "unreadable",
]

MAX_EMBEDDINGS = 256
_MAX_BYTES = 64 * 2**20
_MAX_PROBLEMS = 32
_MAX_REASONS = 8
_UNFETCHABLE = (OSError, Unreadable, RuntimeError, TypeError)
"""Errors of reading a tensor; torch has dtypes that it cannot convert."""


@dataclass(frozen=True)
class BundledEmbedding:
    """One embedding.

    Attributes:
        name: its name in the file.
        encoders: encoder name → fp32 on the CPU, contiguous, finite, shape ``(n, width)``.
        hash: 12 hex digits that depend only on the values.
        vector_count: n, 1 … 75.
    """

    name: str
    encoders: Mapping[str, torch.Tensor]
    hash: str
    vector_count: int

    @classmethod
    def of(cls, name: str, encoders: Mapping[str, torch.Tensor]) -> BundledEmbedding:
        """Build from checked vectors, each of shape ``(n, width)``."""
        count = int(next(iter(encoders.values())).shape[0])
        return cls(name, dict(encoders), embedding_hash(encoders)[:12], count)


@dataclass(frozen=True)
class BundledEmbeddings:
    """The embeddings of a file.

    Attributes:
        embeddings: name → embedding, sorted by key.
        problems: what could not be used and why; the field is the shortened name or key.
        keys: every embedding key of the file, used or not.
        unused: the embedding keys whose tensors are not in ``embeddings``.
    """

    embeddings: dict[str, BundledEmbedding]
    problems: list[Problem]
    keys: frozenset[str] = field(default=frozenset())
    unused: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True)
class TensorSource:
    """Provides shapes and tensors: from a file that is read as needed, or from a dictionary.

    Attributes:
        shape: key → shape, without reading the tensor.
        fetch: key → tensor.
    """

    shape: Callable[[str], Sequence[int]]
    fetch: Callable[[str], torch.Tensor]


def source_of_file(file: TensorFile) -> TensorSource:
    """Shapes and tensors of an open file."""
    return TensorSource(lambda key: file.entries[key].shape, file.read)


def source_of_values(tensors: Mapping[str, Any]) -> TensorSource:
    """Shapes and tensors of a dictionary, which may also contain other values."""

    def shape(key: str) -> Sequence[int]:
        if not isinstance(tensors[key], torch.Tensor):
            raise Rejected("its values are not a tensor")
        return tuple(tensors[key].shape)

    return TensorSource(shape, lambda key: tensors[key])


def unreadable(path: Path, error: Exception) -> BundledEmbeddings:
    """The result for a file that could not be opened."""
    text = f"The embeddings of {printable(path.name)} cannot be read: {printable(error, 200)}."
    hint = error.hint if isinstance(error, Unreadable) else "Check the path."
    return BundledEmbeddings({}, [Problem(printable(path.name), "error", text, hint)])


class EmbeddingReader:
    """Collects the embeddings of one LoRA from one or more files."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._more: list[Severity] = []
        self._names: dict[str, str] = {}
        self._bytes = 0

    def read(self, groups: KeyGroups, source: TensorSource) -> tuple[dict[str, BundledEmbedding], set[str]]:
        """Check all shapes first, then read the accepted tensors.

        Args:
            groups: the embedding keys.
            source: provides the tensors of these keys.

        Returns:
            The embeddings by name, and the keys used for them.
        """
        for key, reason in groups.unrecognized.items():
            self.reject(key, reason)
        chosen: dict[str, dict[str, str]] = {}
        for name, suffixes in groups.names.items():
            with self.noting(name):
                chosen[name] = self._check(name, suffixes, source)
        embeddings: dict[str, BundledEmbedding] = {}
        used: set[str] = set()
        for name, encoders in chosen.items():
            keys = groups.names[name]
            with self.noting(name):
                vectors = normalized({suffix: source.fetch(keys[suffix]) for suffix in encoders}, encoders)
                embeddings[name] = BundledEmbedding.of(name, vectors)
                used.update(keys[suffix] for suffix in encoders)
        return embeddings, used

    def _check(self, name: str, suffixes: Mapping[str, str], source: TensorSource) -> dict[str, str]:
        """The suffixes to read for a name → their encoders.

        Raises:
            Rejected: the embedding cannot be used.
        """
        fault = why_untypable(name)
        if fault:
            raise Rejected(fault)
        choice = choose_suffixes(suffixes)
        reasons = [f"{printable(suffix)} is ignored ({why})" for suffix, why in sorted(choice.ignored.items())]
        reason = "; ".join(reasons[:_MAX_REASONS]) + ("; and more" if len(reasons) > _MAX_REASONS else "")
        if not choice.used:
            raise Rejected(f"it has no vectors for Stable Diffusion 1, 2 or XL: {reason}")
        shapes = {suffix: [int(side) for side in source.shape(suffixes[suffix])] for suffix in choice.used}
        check_shapes(shapes)
        self._claim(name, shapes)
        if reason:
            self.note(name, "warning", f"The embedding '{printable(name)}' is used in part: {reason}.")
        return choice.used

    def _claim(self, name: str, shapes: Mapping[str, Sequence[int]]) -> None:
        key = token_key(name)
        if key in self._names:
            other = printable(self._names[key])
            raise Rejected(f"'{printable(name)}' and '{other}' are the same name to the tokenizer")
        if len(self._names) >= MAX_EMBEDDINGS:
            raise Rejected(f"at most {MAX_EMBEDDINGS} embeddings per file are read")
        if self._bytes + byte_count(shapes) > _MAX_BYTES:
            raise Rejected(f"at most {_MAX_BYTES >> 20} MiB of embeddings per file are read")
        self._names[key] = name
        self._bytes += byte_count(shapes)

    def add(self, item: BundledEmbedding, embeddings: dict[str, BundledEmbedding]) -> None:
        """Add an embedding that was read elsewhere, unless its name is taken or a limit is reached."""
        with self.noting(item.name):
            self._claim(item.name, {key: tuple(value.shape) for key, value in item.encoders.items()})
            embeddings[item.name] = item

    @contextlib.contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Context manager that records an unusable embedding instead of raising.

        Args:
            name: name of the embedding.
        """
        try:
            yield
        except Rejected as rejected:
            self.reject(name, rejected.reason, rejected.hint)
        except _UNFETCHABLE as error:
            self.reject(name, f"its data cannot be read ({printable(error)})")

    def note(self, name: str, severity: Severity, message: str, hint: str = "") -> None:
        """Record a problem; only the first ones are kept if there are very many."""
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(Problem(printable(name), severity, message, hint))
        else:
            self._more.append(severity)

    def reject(self, name: str, reason: str, hint: str = "") -> None:
        """Record why an embedding is not used."""
        self.note(name, "error", f"The embedding '{printable(name)}' is not used: {reason}.", hint)

    @property
    def problems(self) -> list[Problem]:
        """The recorded problems, and how many more there were."""
        if not self._more:
            return list(self._problems)
        severity: Severity = "error" if "error" in self._more else "warning"
        text = f"There are {len(self._more)} more problems with embeddings in this file."
        return [*self._problems, Problem("…", severity, text, "")]
