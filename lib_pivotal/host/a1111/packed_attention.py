"""Attention of open_clip's text encoders as four layers, so that each can carry a LoRA.

The modules are not replaced: only the ``forward`` of an instance is, and it is restored afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

__all__ = ["PackedAttention", "unpacked"]


class _Part(torch.nn.Module):
    """One third of a packed input projection; looks like a Linear layer but has no weight of its own."""

    def __init__(self, attention: Any, index: int) -> None:
        super().__init__()
        # Not registered as a submodule: that would make the attention a part of its own part.
        object.__setattr__(self, "attention", attention)
        self.in_features = self.out_features = int(attention.embed_dim)
        self._rows = slice(index * self.out_features, (index + 1) * self.out_features)

    @property
    def weight(self) -> torch.Tensor:
        """Shape ``(width, width)``: a view of the packed weight."""
        return self.attention.in_proj_weight[self._rows]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The projection of ``(…, width)``."""
        bias = self.attention.in_proj_bias
        return functional.linear(x, self.weight, None if bias is None else bias[self._rows])


class PackedAttention:
    """An ``nn.MultiheadAttention`` whose projections can be hooked.

    Args:
        attention: from open_clip, with the same width for all inputs and the sequence in the first dimension.

    Host: torch/nn/modules/activation.py, ``MultiheadAttention.forward``, torch 2.0-2.1: passes its weights to a
        function, so hooks on its ``out_proj`` are never called, and its three input projections are one tensor.
    """

    def __init__(self, attention: Any) -> None:
        self.attention = attention
        self.q, self.k, self.v = (_Part(attention, index) for index in range(3))
        self.out = attention.out_proj

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: Any = None,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Replaces the attention's own forward; all three inputs have shape ``(length, batch, width)``."""
        assert key_padding_mask is None, "open_clip passes none"
        assert not need_weights, "open_clip does not ask for them"
        length, batch, width = query.shape
        heads = self.attention.num_heads
        shape = (length, batch, heads, width // heads)
        q, k, v = (
            part(x).reshape(shape).permute(1, 2, 0, 3) for part, x in ((self.q, query), (self.k, key), (self.v, value))
        )
        mask = None if attn_mask is None else attn_mask.to(q.dtype)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.permute(2, 0, 1, 3).reshape(length, batch, width)), None


@contextlib.contextmanager
def unpacked(attentions: list[PackedAttention]) -> Iterator[None]:
    """Within the context these attention layers compute through their four parts."""
    for packed in attentions:
        packed.attention.forward = packed.forward
    try:
        yield
    finally:
        for packed in attentions:
            packed.attention.__dict__.pop("forward", None)
