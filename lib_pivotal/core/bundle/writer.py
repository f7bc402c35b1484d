"""Writes the bundle of a run and the files for the webui's card; each file is written completely or not at all."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lib_pivotal.core.atomic_file import FileInUse, replacing
from lib_pivotal.core.bundle.layout import pack
from lib_pivotal.core.bundle.tensor_file import write_tensors
from lib_pivotal.core.errors import BundleError

__all__ = ["WrittenBundle", "write_bundle"]

logger = logging.getLogger("pivotal.bundle")

_SPACE = "Check free disk space and write permission."
_MAX_SIDECAR_BYTES = 2**20
"""Maximum size in bytes of a card's side-car file."""


@dataclass(frozen=True)
class WrittenBundle:
    """A bundle that was written.

    Attributes:
        path: path of the bundle; differs from the requested one if that file could not be replaced.
        warnings: other things that failed.
    """

    path: Path
    warnings: list[str]


def write_bundle(
    path: Path,
    lora: Mapping[str, torch.Tensor],
    embeddings: Mapping[str, Mapping[str, torch.Tensor]],
    metadata: Mapping[str, str],
    *,
    words: str | None,
    negative_words: str = "",
    title: str = "SD1",
    lora_dtype: torch.dtype = torch.float16,
    preview: Image.Image | None = None,
    overwrite: bool = False,
    replace_preview: bool = False,
    claim: Callable[[Path, Path], None] | None = None,
) -> WrittenBundle:
    """Write a bundle, its side-car JSON and its preview image, each atomically.

    An existing side-car keeps all entries except those that describe this bundle; an existing image is kept.
    Once the bundle is written, later failures only give warnings.

    Args:
        path: ``….safetensors``.
        lora: kohya key → tensor.
        embeddings: name → encoder name → ``(n_vectors, width)``.
        metadata: metadata strings.
        words: trigger words that a click on the webui's card adds to the prompt; None writes no files for the card.
        negative_words: what the click adds to the negative prompt; empty leaves the card's own text alone.
        title: title of the model's family, see ``core.families``.
        lora_dtype: dtype of the LoRA in the file.
        preview: preview image for the card.
        overwrite: whether to replace an existing bundle.
        replace_preview: whether to replace an existing image.
        claim: called with final path and complete temporary file right before bundle or image is renamed.

    Raises:
        BundleError: the file exists and must not be replaced, or cannot be written.

    Host: modules/ui_extra_networks_lora.py, create_item, A1111 1.6.1-1.10.1: reads ``activation text`` and
        ``sd version`` of the side-car and ``NAME.png``; 1.10.1 reads ``negative text``, too.
    """
    if path.exists() and not overwrite:
        raise BundleError(f"{path.name} already exists.", hint="Choose another output name, or allow overwriting.")
    warnings = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, before=_claiming(claim, path)) as partial:
            write_tensors(partial, pack(lora, embeddings, lora_dtype), dict(metadata))
    except FileInUse as error:
        warnings.append(
            f"{path.name} cannot be replaced: another program has it open, or it is read-only. The new bundle is "
            f"{error.kept.name} in the same folder. Close that program, and rename the new file if you want to."
        )
        path = error.kept
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(f"{path} cannot be written ({reason}).", hint=_SPACE) from error
    if words is None:
        return WrittenBundle(path, warnings)
    sidecar, image = path.with_suffix(".json"), path.with_suffix(".png")
    entries = {"activation text": words, "sd version": title}
    if negative_words:
        entries["negative text"] = negative_words
    warnings += _tried(f"{sidecar.name}, the text of the webui's card,", lambda: _write_sidecar(sidecar, entries))
    if preview is not None and (replace_preview or not image.exists()):
        warnings += _tried(f"{image.name}, the image of the webui's card,", lambda: _write_image(image, preview, claim))
    return WrittenBundle(path, warnings)


def _claiming(claim: Callable[[Path, Path], None] | None, path: Path) -> Callable[[Path], None] | None:
    return None if claim is None else lambda partial: claim(path, partial)


def _tried(what: str, write: Callable[[], None]) -> list[str]:
    """Write an optional file; a failure becomes a warning."""
    try:
        write()
    except Exception as error:
        logger.warning("%s cannot be written", what, exc_info=True)
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return [f"{what} cannot be written ({reason}). The bundle itself is complete."]
    return []


def _write_image(path: Path, preview: Image.Image, claim: Callable[[Path, Path], None] | None) -> None:
    with replacing(path, keep=False, before=_claiming(claim, path)) as partial:
        preview.save(partial, "PNG")


def _write_sidecar(path: Path, entries: Mapping[str, str]) -> None:
    """Update the side-car of the card; the user's notes and weight are kept.

    Raises:
        OSError: it cannot be read or written.
        ValueError: the existing file is not a JSON object.
    """
    kept: Any = {}
    if path.exists():
        # Reading a pipe would block.
        if not path.is_file() or path.stat().st_size > _MAX_SIDECAR_BYTES:
            message = "the existing file is not a side-car of notes"
            raise ValueError(message)
        try:
            kept = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            kept = None
    if not isinstance(kept, dict):
        message = "the existing file is not a JSON object, so it was left unchanged"
        raise ValueError(message)  # noqa: TRY004  (the type of a file's contents)
    weight = kept.get("preferred weight", 1.0)
    values = {**kept, **entries, "preferred weight": weight}
    with replacing(path, keep=False) as partial:
        partial.write_text(json.dumps(values, indent=4, ensure_ascii=False), encoding="utf-8")
