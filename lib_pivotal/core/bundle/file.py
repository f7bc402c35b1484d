"""Reading and writing bundle files; a file is complete or not there at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file

from lib_pivotal.core.bundle.embeddings import parse_embeddings
from lib_pivotal.core.bundle.layout import pack
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable, open_tensors, write_tensors
from lib_pivotal.core.errors import BundleError, Problem
from lib_pivotal.core.printable import printable

__all__ = [
    "Bundle",
    "Written",
    "free_name",
    "open_bundle",
    "read_bundle",
    "refuse_existing",
    "replacing",
    "write_bundle",
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
        unknown_keys: keys about embeddings that are not used.
        problems: why not.
    """

    lora: dict[str, torch.Tensor]
    embeddings: dict[str, dict[str, torch.Tensor]]
    metadata: dict[str, str]
    unknown_keys: list[str]
    problems: list[Problem] = field(default_factory=list)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle, or a plain LoRA, which is a bundle without embeddings.

    Raises:
        BundleError: the file is missing or is not a safetensors file; says what it is.
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
    """A file to work on, closed at the end.

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


@dataclass(frozen=True)
class Written:
    """What a tool did.

    Attributes:
        paths: files written.
        problems: what the user should know; nothing in it prevented the writing.
    """

    paths: list[Path]
    problems: list[Problem]


def refuse_existing(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Look at the files to be written before any work.

    Raises:
        BundleError: one exists, or has another kind of name.
    """
    for path in paths:
        if path.suffix != ".safetensors":
            raise BundleError(f"{printable(path.name)} must end in .safetensors.", hint="Choose another name.")
    existing = [printable(path.name) for path in paths if path.exists()]
    if existing and not overwrite:
        exist = "exists" if len(existing) == 1 else "exist"
        hint = "Choose another name, or allow overwriting."
        raise BundleError(f"{', '.join(existing)} {exist} already.", hint=hint)


def write_changed(
    out: Path,
    file: TensorFile,
    copied: Mapping[str, str],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write a file of tensors that are copied from another one byte for byte, and of new ones.

    Args:
        out: the file, complete or not there at all.
        file: an open one to copy from.
        copied: new key → key in ``file``.
        tensors: new key → tensor of any shape.
        metadata: texts.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as partial:
        write_tensors(partial, tensors, metadata, {new: (file, old) for new, old in copied.items()})


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the context ends well.

    The data reaches the disk before the name changes, so that a crash leaves the old file or the new one.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def free_name(path: Path) -> Path:
    """``path``, or the first of ``name-2``, ``name-3``, … that does not exist yet."""
    number, result = 1, path
    while result.exists():
        number += 1
        result = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return result


def write_bundle(
    path: Path,
    lora: Mapping[str, torch.Tensor],
    embeddings: Mapping[str, Mapping[str, torch.Tensor]],
    metadata: Mapping[str, str],
    *,
    words: str,
    title: str = "SD1",
    lora_dtype: torch.dtype = torch.float16,
    preview: Image.Image | None = None,
    overwrite: bool = False,
    replace_preview: bool = False,
) -> list[Path]:
    """Write a bundle with its side-car JSON and preview picture, each atomically.

    A side-car that is there keeps everything but what this bundle says of itself; a picture that is there is kept.

    Args:
        path: ``….safetensors``.
        lora: kohya key → tensor.
        embeddings: name → encoder name → ``(n_vectors, width)``.
        metadata: texts only.
        words: put into prompts by a click on the webui's card.
        title: of the model's family, see ``core.families``.
        lora_dtype: of the LoRA in the file.
        preview: picture of the card.
        overwrite: replace an existing bundle.
        replace_preview: replace an existing picture.

    Returns:
        The bundle, and the picture if it was written.

    Raises:
        BundleError: the file exists and must not be replaced, or cannot be written.

    Host: modules/ui_extra_networks_lora.py, create_item, A1111 1.6.1-1.10.1: reads ``activation text`` and
        ``sd version`` of the side-car and ``NAME.png``.
    """
    if path.exists() and not overwrite:
        raise BundleError(f"{path.name} exists already.", hint="Choose another output name, or allow overwriting.")
    picture = path.with_suffix(".png")
    written = [path]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file(pack(lora, embeddings, lora_dtype), partial, dict(metadata))
        _write_sidecar(path.with_suffix(".json"), words, title)
        if preview is not None and (replace_preview or not picture.exists()):
            with replacing(picture) as partial:
                preview.save(partial, "PNG")
            written.append(picture)
    except (OSError, SafetensorError) as error:
        # A full disk is an OSError only where Python writes.
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path} cannot be written ({reason}).", hint="Free space or rights?") from error
    return written


def _write_sidecar(path: Path, words: str, title: str) -> None:
    """Put what the card needs into the side-car; notes and weight that the user gave it stay."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        kept = {}
    except ValueError:
        kept = None
    if not isinstance(kept, dict):
        # What cannot be understood cannot be added to.
        return
    weight = kept.get("preferred weight", 1.0)
    values = {**kept, "activation text": words, "sd version": title, "preferred weight": weight}
    with replacing(path) as partial:
        partial.write_text(json.dumps(values, indent=4, ensure_ascii=False), encoding="utf-8")
