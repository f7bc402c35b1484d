"""The maths of one LoRA layer: ``W x + (alpha / rank) · B A x``, for Linear and convolution layers.

Source: Hu et al. 2021, section 4.1, https://arxiv.org/abs/2106.09685; convolutions as in LoCon:
Yeh et al. 2023, https://arxiv.org/abs/2309.14859.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

__all__ = ["add_delta", "delta_weight", "down_shape", "start_down", "up_shape"]


def down_shape(weight: torch.Tensor, rank: int) -> tuple[int, ...]:
    """Shape of A for a layer weight ``(out, in)`` or ``(out, in, kh, kw)``: ``(rank, in[, kh, kw])``."""
    return (rank, *weight.shape[1:])


def up_shape(weight: torch.Tensor, rank: int) -> tuple[int, ...]:
    """Shape of B for a layer weight: ``(out, rank)`` or ``(out, rank, 1, 1)``."""
    return (weight.shape[0], rank) if weight.ndim == 2 else (weight.shape[0], rank, 1, 1)


@torch.no_grad()
def start_down(down: torch.Tensor, generator: torch.Generator) -> None:
    """Fill A evenly with variance 1/(3·fan_in); B stays zero, so that the start changes nothing.

    Args:
        down: A, shape ``(rank, in[, kh, kw])``; written in place.
        generator: CPU generator.
    """
    bound = 1.0 / math.sqrt(down[0].numel())
    down.copy_((torch.rand(down.shape, generator=generator) * 2 - 1) * bound)


def delta_weight(down: torch.Tensor, up: torch.Tensor, scale: float) -> torch.Tensor:
    """What a LoRA adds to the layer's weight.

    Args:
        down: A, shape ``(rank, in[, kh, kw])``.
        up: B, shape ``(out, rank[, 1, 1])``.
        scale: alpha / rank.

    Returns:
        fp32, shape of the layer's weight.
    """
    product = up.flatten(1).float() @ down.flatten(1).float()
    return scale * product.view(up.shape[0], *down.shape[1:])


def add_delta(
    module: Any, x: torch.Tensor, output: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scale: float
) -> torch.Tensor:
    """The layer's output with the LoRA's part added.

    Args:
        module: the layer; a convolution gives stride, padding and dilation.
        x: the layer's input, ``(…, in)`` or ``(B, in, h, w)``.
        output: the layer's output.
        down: A, fp32.
        up: B, fp32.
        scale: alpha / rank.

    Returns:
        Same shape and dtype as ``output``.
    """
    if down.ndim == 2:
        hidden = functional.linear(_match(x, down), down)
        part = functional.linear(hidden, up)
    else:
        hidden = functional.conv2d(_match(x, down), down, None, module.stride, module.padding, module.dilation)
        part = functional.conv2d(hidden, up)
    if part.dtype != output.dtype:
        part = part.to(output.dtype)
    return torch.add(output, part, alpha=scale)


def _match(x: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Outside autocast a half-precision input must meet fp32 weights as fp32."""
    return x if x.dtype == down.dtype or torch.is_autocast_enabled() else x.to(down.dtype)
