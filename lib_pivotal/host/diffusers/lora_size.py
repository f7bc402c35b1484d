"""The size of a LoRA for a checkpoint, from the shapes in the checkpoint's header."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from lib_pivotal.core.bundle.tensor_file import Unreadable, open_tensors
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.train.output_check import ValuesPerRank
from lib_pivotal.host.diffusers.weight_files import find_weights

__all__ = ["values_per_rank"]

_UNET_LAYER = re.compile(r"\.attn[12]\.to_|\.ff\.net\.")
_TEXT_LAYER = re.compile(r"self_attn|\.attn\.|\.mlp\.")
_UNET_FILE = "model.diffusion_model."
_TEXT_FILE = ("cond_stage_model.", "conditioner.")


def values_per_rank(checkpoint: Path) -> ValuesPerRank | None:
    """Trained values that one unit of rank adds; None if the files' headers do not show it."""
    try:
        if checkpoint.is_file():
            unet, text = _split(checkpoint)
        else:
            unet = _shapes(find_weights(checkpoint / "unet").files)
            encoders = sorted(checkpoint.glob("text_encoder*"))
            text = _shapes([path for folder in encoders for path in find_weights(folder).files])
    except (OSError, Unreadable, HostError):
        return None
    layers = {name: shape for name, shape in unet.items() if _UNET_LAYER.search(name) and len(shape) == 2}
    convolutions = [shape for name, shape in unet.items() if name not in layers and len(shape) == 4]
    if not layers:
        return None
    in_text = [shape for name, shape in text.items() if _TEXT_LAYER.search(name) and len(shape) == 2]
    return ValuesPerRank(_values(list(layers.values())), _values(convolutions), _values(in_text))


def _split(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    shapes = _shapes([path])
    unet = {name: shape for name, shape in shapes.items() if name.startswith(_UNET_FILE)}
    return unet, {name: shape for name, shape in shapes.items() if name.startswith(_TEXT_FILE)}


def _shapes(paths: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for path in paths:
        with open_tensors(path) as file:
            found.update({f"{path}/{name}" if len(paths) > 1 else name: e.shape for name, e in file.entries.items()})
    return found


def _values(shapes: Sequence[tuple[int, ...]]) -> int:
    """Number of values in a LoRA of rank 1 on layers of these shapes, ``(out, in)`` or ``(out, in, kh, kw)``."""
    return sum(out + math.prod(inside) for out, *inside in shapes)
