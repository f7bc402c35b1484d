"""Checks and normalizes the vectors of an embedding from any source."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch

from lib_pivotal.core.families import CHUNK_TOKENS

__all__ = [
    "MAX_VALUE",
    "MAX_VECTORS",
    "MAX_WIDTH",
    "SDXL_WIDTHS",
    "Rejected",
    "byte_count",
    "check_shapes",
    "embedding_hash",
    "normalized",
]

MAX_VECTORS = CHUNK_TOKENS
SDXL_WIDTHS = (768, 1280)
MAX_WIDTH = sum(SDXL_WIDTHS)
"""Maximum vector width in Stable Diffusion 1, 2 and XL: both SDXL encoders concatenated."""
MAX_VALUE = 1e4
"""CLIP's own values stay below 1; beyond this limit an encoder in half precision produces NaN."""


class Rejected(Exception):
    """An embedding cannot be used; raised and caught inside the reader.

    Args:
        reason: continues the sentence "The embedding X is not used: …".
        hint: what to do.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def check_shapes(shapes: Mapping[str, Sequence[int]]) -> None:
    """Check the shapes of an embedding's tensors before reading them.

    Args:
        shapes: key → shape of a tensor.

    Raises:
        Rejected: no encoder can use such vectors.
    """
    for sides in shapes.values():
        if len(sides) not in (1, 2):
            raise Rejected(f"vectors have one or two dimensions, not {len(sides)}")
        count = _count(sides)
        if not 1 <= count <= MAX_VECTORS:
            raise Rejected(f"it has {count} vectors; 1 to {MAX_VECTORS} fit into a prompt")
        if not 1 <= sides[-1] <= MAX_WIDTH:
            raise Rejected(f"Stable Diffusion 1, 2 and XL have no vectors of width {sides[-1]}")
    counts = sorted({_count(sides) for sides in shapes.values()})
    if len(counts) > 1:
        raise Rejected(f"its encoders have different numbers of vectors ({', '.join(map(str, counts))})")


def byte_count(shapes: Mapping[str, Sequence[int]]) -> int:
    """Number of bytes of tensors of these shapes in fp32."""
    return sum(4 * math.prod(sides) for sides in shapes.values())


def _count(sides: Sequence[int]) -> int:
    return sides[0] if len(sides) == 2 else 1


def embedding_hash(encoders: Mapping[str, torch.Tensor]) -> str:
    """sha256 of an embedding's values; independent of its name and file.

    Args:
        encoders: encoder → vectors, shape ``(n, width)``; hashed as fp32.
    """
    digest = hashlib.sha256()
    for encoder in sorted(encoders):
        vectors = encoders[encoder].detach().float().cpu().contiguous()
        digest.update(f"{encoder}{tuple(vectors.shape)}".encode())
        digest.update(vectors.numpy().tobytes())
    return digest.hexdigest()


def normalized(tensors: Mapping[str, torch.Tensor], encoders: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Normalize an embedding's vectors, by encoder.

    Args:
        tensors: suffix of the key → vectors, shape ``(n, width)`` or ``(width,)``, any dtype.
        encoders: suffix of the key → encoder, or an empty string if the file names none. Such vectors are used for
            ``clip_l``, or for both SDXL encoders if they are as wide as both together.

    Returns:
        Encoder → shape ``(n, width)``, fp32, CPU, contiguous, finite, with its own memory.

    Raises:
        Rejected: the values cannot be used.

    Source: HCP-Diffusion writes SDXL's embeddings side by side, CLIP-L's first.
    """
    # The tensor that a reader returns may differ from the header.
    check_shapes({suffix: tuple(value.shape) for suffix, value in tensors.items()})
    found: dict[str, torch.Tensor] = {}
    for suffix, value in tensors.items():
        table = _as_fp32(value)
        if encoders[suffix]:
            halves = {encoders[suffix]: table}
        elif table.shape[1] == MAX_WIDTH:
            halves = {"clip_l": table[:, : SDXL_WIDTHS[0]], "clip_g": table[:, SDXL_WIDTHS[0] :]}
        else:
            halves = {"clip_l": table}
        if found.keys() & halves.keys():
            raise Rejected(f"there are two sets of vectors for {', '.join(sorted(found.keys() & halves.keys()))}")
        # Copied, because the reader's tensor may be mapped to the file, which must stay replaceable.
        found.update({encoder: half.clone(memory_format=torch.contiguous_format) for encoder, half in halves.items()})
    return dict(sorted(found.items(), reverse=True))


def _as_fp32(value: torch.Tensor) -> torch.Tensor:
    if not value.is_floating_point():
        raise Rejected(
            f"its values have the dtype {str(value.dtype).removeprefix('torch.')}, which is not floating point"
        )
    table = value.detach().to("cpu", torch.float32)
    table = table.unsqueeze(0) if table.ndim == 1 else table
    if not bool(torch.isfinite(table).all()):
        raise Rejected(
            "some of its values are NaN or infinite", "Its training failed; use another embedding or train it again."
        )
    largest = float(table.abs().max())
    if largest > MAX_VALUE:
        raise Rejected(f"it has values up to {largest:.3g}, but a text encoder can use at most {MAX_VALUE:g}")
    return table
