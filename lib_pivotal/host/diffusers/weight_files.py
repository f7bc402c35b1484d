"""The files that hold the weights of one part of a diffusers folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from lib_pivotal.core.bundle.tensor_file import Unreadable, open_tensors
from lib_pivotal.core.errors import HostError

__all__ = ["WeightFiles", "find_weights", "require_readable"]

_STEMS = ("diffusion_pytorch_model", "model")
"""Of parts from diffusers and from transformers."""
_VARIANT = re.compile(
    rf"(?:{'|'.join(_STEMS)})\.(?:(?P<file>\w+)\.safetensors|safetensors\.index\.(?P<list>\w+)\.json)"
)
"""Names with a variant in them; a single part of several, ``fp16-00001-of-00002``, is none."""


class WeightFiles(NamedTuple):
    """The files of one part.

    Attributes:
        files: those that will be read; empty for a ``.bin``, into which only the loading library looks.
        variant: what diffusers and transformers call it, ``fp16`` for ``model.fp16.safetensors``; None for plain names.
    """

    files: tuple[Path, ...]
    variant: str | None


def find_weights(folder: Path) -> WeightFiles:
    """Find the weights of a part; files without a variant in their name are preferred, then fp16.

    Args:
        folder: such as ``unet``.

    Raises:
        HostError: there are none, or the list of their files cannot be read.
    """
    for stem in _STEMS:
        if (folder / f"{stem}.safetensors").exists():
            return WeightFiles((folder / f"{stem}.safetensors",), None)
        if (folder / f"{stem}.safetensors.index.json").exists():
            return WeightFiles(_listed(folder / f"{stem}.safetensors.index.json"), None)
    variants = {}
    for path in sorted(folder.glob("*.safetensors*")):
        named = _VARIANT.fullmatch(path.name)
        if named:
            variant = named.group("file") or named.group("list")
            variants[variant] = WeightFiles((path,) if named.group("file") else _listed(path), variant)
    if not variants and any(folder.glob("*.bin*")):
        return WeightFiles((), None)
    if not variants:
        hint = "Download the folder again with all of its .safetensors files."
        raise HostError(f"{folder.parent.name}/{folder.name} has no weights.", hint=hint)
    return variants["fp16"] if "fp16" in variants else next(iter(variants.values()))


def require_readable(weights: WeightFiles) -> None:
    """Look at the headers of weight files.

    Raises:
        HostError: a file is missing, damaged, or something else under that name.
    """
    for path in weights.files:
        name = "/".join(path.parts[-3:])
        try:
            with open_tensors(path):
                pass
        except Unreadable as error:
            hint = getattr(error, "hint", "") or "Download it again."
            raise HostError(f"{name} cannot be read: {error}.", hint=hint) from error
        except OSError as error:
            raise HostError(f"{name} cannot be read: {error.strerror or error}.", hint="Download it again.") from error


def _listed(index: Path) -> tuple[Path, ...]:
    """The files that an index of shards names."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return tuple(sorted(index.parent / str(name) for name in names))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HostError(f"{index.parent.name}/{index.name} cannot be read.", hint="Download it again.") from error
