"""Reads bundle files and writes modified copies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.bundle.embeddings import BundledEmbeddings, parse_embeddings, parse_tensor_file
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable, open_tensors, write_tensors
from lib_pivotal.core.errors import BundleError, ConfigError, Problem
from lib_pivotal.core.printable import printable

__all__ = [
    "Bundle",
    "Written",
    "open_bundle",
    "read_bundle",
    "refuse_existing",
    "require_embeddings",
    "write_changed",
]

_DISK = "Check free disk space and write permission."


@dataclass(frozen=True)
class Bundle:
    """Contents of a bundle file.

    Attributes:
        lora: kohya key → tensor.
        embeddings: name → encoder name → ``(n_vectors, width)``, fp32.
        metadata: as stored.
        unknown_keys: embedding keys that are not used.
        problems: why they are not used.
    """

    lora: dict[str, torch.Tensor]
    embeddings: dict[str, dict[str, torch.Tensor]]
    metadata: dict[str, str]
    unknown_keys: list[str]
    problems: list[Problem] = field(default_factory=list)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle, or a plain LoRA, which is a bundle without embeddings.

    Raises:
        BundleError: the file is missing or is not a safetensors file; the message says what it is.
    """
    with open_bundle(path) as file:
        tensors = {key: file.read(key) for key in file.entries}
        metadata = file.metadata
    found = parse_embeddings(tensors, metadata)
    lora = {key: value for key, value in tensors.items() if key not in found.keys}
    embeddings = {name: dict(item.encoders) for name, item in found.embeddings.items()}
    return Bundle(lora, embeddings, metadata, sorted(found.unused), found.problems)


@contextlib.contextmanager
def open_bundle(path: Path) -> Iterator[TensorFile]:
    """Open a file to work on; it is closed at the end of the context.

    Raises:
        BundleError: it cannot be read, or nothing can be written within the context.
    """
    name = printable(path.name)
    try:
        with open_tensors(path) as file:
            yield file
    except Unreadable as error:
        raise BundleError(f"{name} cannot be read: {error}.", hint=error.hint) from error
    except FileNotFoundError as error:
        raise BundleError(f"There is no file {name}.", hint="Check the path, or choose another file.") from error
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(f"A file cannot be read or written ({reason}).", hint=_DISK) from error


def require_embeddings(file: TensorFile, path: Path) -> BundledEmbeddings:
    """The embeddings of an open file.

    Args:
        file: the open file.
        path: its path, for the message.

    Raises:
        ConfigError: it contains no usable ones; lists why.
    """
    found = parse_tensor_file(file)
    if not found.embeddings:
        nothing = Problem(printable(path.name), "error", "It contains no embeddings.", "Choose another file.")
        raise ConfigError(found.problems or [nothing])
    return found


@dataclass(frozen=True)
class Written:
    """Result of a bundle tool.

    Attributes:
        paths: the files written.
        problems: warnings for the user; none of them prevented writing.
    """

    paths: list[Path]
    problems: list[Problem]


def refuse_existing(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Check the output paths before doing any work.

    Raises:
        BundleError: one exists or has the wrong suffix.
    """
    for path in paths:
        if path.suffix != ".safetensors":
            raise BundleError(f"{printable(path.name)} must end in .safetensors.", hint="Choose another name.")
    existing = [printable(path.name) for path in paths if path.exists()]
    if existing and not overwrite:
        exist = "exists" if len(existing) == 1 else "exist"
        hint = "Choose another name, or allow overwriting."
        raise BundleError(f"{', '.join(existing)} already {exist}.", hint=hint)


def write_changed(
    out: Path,
    file: TensorFile,
    copied: Mapping[str, str],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write a file with tensors copied byte for byte from another file, and with new tensors.

    Args:
        out: the new file; it is written completely or not at all.
        file: open file to copy from; it is closed when everything is copied.
        copied: new key → key in ``file``.
        tensors: new key → tensor of any shape.
        metadata: metadata strings.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    # Windows replaces only closed files, and ``out`` may be the one that was copied from.
    with replacing(out, before=lambda _partial: file.close()) as partial:
        write_tensors(partial, tensors, metadata, {new: (file, old) for new, old in copied.items()})
