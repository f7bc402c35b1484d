"""The CLIP tokenizer of a checkpoint that does not hold one itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from lib_pivotal.core.errors import HostError, PivotalError
from lib_pivotal.host.diffusers.shapes import clip_params, text_folder
from lib_pivotal.host.diffusers.standard import STANDARD_TOKENIZER
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer

__all__ = ["clip_tokenizer"]

_VOCABULARY = 49_408


def clip_tokenizer(params: Mapping[str, Any], path: Path) -> Any:
    """From the folder that the configuration names, from this machine's cache, or built here.

    Args:
        params: the checkpoint's configuration.
        path: of the checkpoint.

    Raises:
        HostError: the configuration names a tokenizer that is not on this machine.
    """
    source = text_folder(params, path) or clip_params(params).get("version") or STANDARD_TOKENIZER
    found = _stored_tokenizer(source)
    if found is not None:
        return found
    if source != STANDARD_TOKENIZER:
        raise HostError(
            f"The tokenizer of {path.name} ({source}) is not on this machine.",
            hint="The .yaml next to the checkpoint names it as version of its text encoder. Name a folder there.",
        )
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_tokenizer(Path(folder))
            return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except PivotalError as error:
        raise HostError(error.message, hint=error.hint) from error


def _stored_tokenizer(source: str | Path) -> Any:
    """A tokenizer on this machine, or None where there is none of this name."""
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError):
        return None
    # transformers 5 makes an empty tokenizer for a name that it has no files for.
    return tokenizer if len(tokenizer) >= _VOCABULARY else None
