"""Writing the bundle of a run, with what the webui's card shows; a file is complete or not there at all."""

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
_LONGEST_SIDECAR = 2**20
"""Bytes. Notes of a card; anything longer is not one."""


@dataclass(frozen=True)
class WrittenBundle:
    """A bundle that was written.

    Attributes:
        path: where it is; another name than asked for when that file could not be replaced.
        warnings: what did not succeed besides.
    """

    path: Path
    warnings: list[str]


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
    claim: Callable[[Path, Path], None] | None = None,
) -> WrittenBundle:
    """Write a bundle with its side-car JSON and preview image, each atomically.

    A side-car that is there keeps everything but what this bundle says of itself; an image that is there is kept.
    Once the bundle is written, nothing that fails after it makes it a failure.

    Args:
        path: ``….safetensors``.
        lora: kohya key → tensor.
        embeddings: name → encoder name → ``(n_vectors, width)``.
        metadata: texts only.
        words: put into prompts by a click on the webui's card.
        title: of the model's family, see ``core.families``.
        lora_dtype: of the LoRA in the file.
        preview: image of the card.
        overwrite: replace an existing bundle.
        replace_preview: replace an existing image.
        claim: called with the name and the complete temporary file, right before bundle and image get their names.

    Raises:
        BundleError: the file exists and must not be replaced, or cannot be written.

    Host: modules/ui_extra_networks_lora.py, create_item, A1111 1.6.1-1.10.1: reads ``activation text`` and
        ``sd version`` of the side-car and ``NAME.png``.
    """
    if path.exists() and not overwrite:
        raise BundleError(f"{path.name} exists already.", hint="Choose another output name, or allow overwriting.")
    warnings = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, before=_claiming(claim, path)) as partial:
            write_tensors(partial, pack(lora, embeddings, lora_dtype), dict(metadata))
    except FileInUse as error:
        hint = "Close the program that uses it, and rename the new file if you like."
        warnings.append(f"{path.name} cannot be replaced: another program has it open, or it is read-only. ")
        warnings[0] += f"The new bundle is {error.kept.name} in the same folder. {hint}"
        path = error.kept
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(f"{path} cannot be written ({reason}).", hint=_SPACE) from error
    sidecar, image = path.with_suffix(".json"), path.with_suffix(".png")
    warnings += _tried(f"{sidecar.name}, the text of the webui's card,", lambda: _write_sidecar(sidecar, words, title))
    if preview is not None and (replace_preview or not image.exists()):
        warnings += _tried(f"{image.name}, the image of the webui's card,", lambda: _write_image(image, preview, claim))
    return WrittenBundle(path, warnings)


def _claiming(claim: Callable[[Path, Path], None] | None, path: Path) -> Callable[[Path], None] | None:
    return None if claim is None else lambda partial: claim(path, partial)


def _tried(what: str, write: Callable[[], None]) -> list[str]:
    """Write something that the bundle can do without; a failure becomes a warning."""
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


def _write_sidecar(path: Path, words: str, title: str) -> None:
    """Put what the card needs into the side-car; notes and weight that the user gave it stay.

    Raises:
        OSError: it cannot be read or written.
        ValueError: it is something else, which cannot be added to.
    """
    kept: Any = {}
    if path.exists():
        # A pipe would never end.
        if not path.is_file() or path.stat().st_size > _LONGEST_SIDECAR:
            message = "what is there is not a file of notes"
            raise ValueError(message)
        try:
            kept = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            kept = None
    if not isinstance(kept, dict):
        message = "the file that is there is not a JSON object, so it was left as it is"
        raise ValueError(message)  # noqa: TRY004  (the type of a file's contents)
    weight = kept.get("preferred weight", 1.0)
    values = {**kept, "activation text": words, "sd version": title, "preferred weight": weight}
    with replacing(path, keep=False) as partial:
        partial.write_text(json.dumps(values, indent=4, ensure_ascii=False), encoding="utf-8")
