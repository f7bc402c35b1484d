"""Joins the outputs of the text encoders into the UNet's conditioning, identically for every host."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lib_pivotal.core.ports import EncodedText
from lib_pivotal.core.to_device import to_device

__all__ = ["join_encoders"]


def join_encoders(
    texts: Sequence[EncodedText], chunk_count: int, is_empty: Sequence[bool], *, zero_empty: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Join the chunks of each caption along the sequence, and the encoders' outputs along the width.

    Args:
        texts: one per encoder; each ``hidden`` has ``B * chunk_count`` rows, the chunks of a caption in sequence.
        chunk_count: number of chunks per caption.
        is_empty: whether each caption is empty.
        zero_empty: whether to set the encodings of empty captions to zero, see ``Family.zero_empty_caption``.

    Returns:
        The hidden states, shape ``(B, 77 * chunk_count, sum of widths)``, and the pooled text of each caption's first
        chunk, shape ``(B, pooled width)``, or None if no encoder has any.
    """
    joined = torch.cat([text.hidden for text in texts], dim=-1) if len(texts) > 1 else texts[0].hidden
    hidden = joined.reshape(len(is_empty), chunk_count * joined.shape[1], joined.shape[2])
    pooled = next((text.pooled[::chunk_count] for text in texts if text.pooled is not None), None)
    if zero_empty and any(is_empty):
        keep = to_device(torch.tensor([not empty for empty in is_empty]), hidden.device)
        hidden = hidden * keep[:, None, None]
        pooled = None if pooled is None else pooled * keep[:, None]
    return hidden, pooled
