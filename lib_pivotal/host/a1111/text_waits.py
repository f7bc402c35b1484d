"""Lets the text encoders work without making the CPU wait for the GPU; what they compute stays the same."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["masks_made_once", "pooling_on_device"]

_MASK = "_make_causal_mask"


@contextlib.contextmanager
def masks_made_once() -> Iterator[None]:
    """Within the context CLIP makes its causal mask once for each shape, since making it waits for the GPU twice.

    Only with the version of transformers that A1111 installs; later ones make it without waiting.
    """
    modeling_clip = sys.modules.get("transformers.models.clip.modeling_clip")
    original = getattr(modeling_clip, _MASK, None)
    if original is None:
        yield
        return
    made: dict[Any, torch.Tensor] = {}

    def mask(shape: Any, dtype: torch.dtype, device: torch.device, *arguments: Any, **options: Any) -> torch.Tensor:
        key = (tuple(shape), dtype, device, arguments, tuple(options.items()))
        if key not in made:
            # Needed after inference mode, too.
            with torch.inference_mode(False), torch.no_grad():
                made[key] = original(shape, dtype, device, *arguments, **options)
        return made[key]

    setattr(modeling_clip, _MASK, mask)
    try:
        yield
    finally:
        setattr(modeling_clip, _MASK, original)


@contextlib.contextmanager
def pooling_on_device(encoder: Any) -> Iterator[None]:
    """Within the context SDXL's second text encoder finds the pooled text by row numbers that are on the device.

    Args:
        encoder: the webui's encoder.

    Host: sgm/modules/encoders/modules.py, ``FrozenOpenCLIPEmbedder2.pool``, A1111 1.6.1-1.10.1: the output at the end
        token, the highest id, times ``text_projection``; its row numbers are on the CPU. SD2's encoder has no pooled
        text.
    """
    if not hasattr(encoder, "pool"):
        yield
        return

    def pool(hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(len(hidden), device=hidden.device)
        pooled: torch.Tensor = hidden[rows, ids.argmax(dim=-1)] @ encoder.model.text_projection
        return pooled

    before = vars(encoder).get("pool")
    encoder.pool = pool
    try:
        yield
    finally:
        del encoder.pool
        if before is not None:
            encoder.pool = before
