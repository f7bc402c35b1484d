"""SDXL's additional conditioning: pooled text and image sizes in one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.to_device import to_device

__all__ = ["size_conditioning"]

_KEYS = {
    "original_size_as_tuple": "original",
    "crop_coords_top_left": "crop",
    "target_size_as_tuple": "target",
}
"""Input key of an embedder → field of ``ImageSize``."""


def size_conditioning(conditioner: Any, pooled: torch.Tensor, sizes: Sequence[ImageSize]) -> torch.Tensor:
    """The pooled text followed by the embedded sizes, fp32, shape ``(B, pooled width + 1536)``.

    Args:
        conditioner: of the webui's model.
        pooled: pooled text of each caption, shape ``(B, pooled width)``.
        sizes: size of each image.

    Host: sgm/modules/encoders/modules.py, ``GeneralConditioner``, A1111 1.6.1-1.10.1: joins the outputs of its
        embedders in their order; those of sizes have the input keys above. In fp16, as a generation passes them, sizes
        over 2048 are rounded.
    """
    parts = [pooled.float()]
    for embedder in conditioner.embedders:
        field = _KEYS.get(getattr(embedder, "input_key", ""))
        if field is not None:
            pairs = torch.tensor([getattr(size, field) for size in sizes], dtype=torch.float32)
            parts.append(embedder(to_device(pairs, pooled.device)).float())
    return torch.cat(parts, dim=1)
