"""SDXL's embedding of an image's sizes."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.ports import ImageSize

__all__ = ["embedded_size"]

_KEYS = {
    "original_size_as_tuple": "original",
    "crop_coords_top_left": "crop",
    "target_size_as_tuple": "target",
}
"""Input key of an embedder → field of ``ImageSize``."""


def embedded_size(conditioner: Any, size: ImageSize, device: torch.device) -> torch.Tensor:
    """The embedded sizes of an image, which follow the pooled text, fp32, shape ``(1, 1536)``.

    Args:
        conditioner: of the webui's model.
        size: sizes of the image.
        device: where the result is needed.

    Host: sgm/modules/encoders/modules.py, ``GeneralConditioner``, A1111 1.6.1-1.10.1: joins the outputs of its
        embedders in their order; those of sizes have the input keys above. In fp16, as a generation passes them, sizes
        over 2048 are rounded.
    """
    parts = []
    for embedder in conditioner.embedders:
        field = _KEYS.get(getattr(embedder, "input_key", ""))
        if field is not None:
            pair = torch.tensor([getattr(size, field)], dtype=torch.float32, device=device)
            parts.append(embedder(pair).float())
    return torch.cat(parts, dim=1)
