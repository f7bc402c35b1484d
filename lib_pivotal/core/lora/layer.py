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


class _LinearDelta(torch.autograd.Function):
    """``output + scale · (x Aᵀ) Bᵀ`` with gradients of A and B added where they live.

    A small layer costs as much in the bookkeeping of autograd as in arithmetic; this is two products
    forward, four backward, and nothing else.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, output: torch.Tensor, down: torch.Tensor, up: torch.Tensor,
                scale: float) -> torch.Tensor:  # fmt: skip
        flat = x.reshape(-1, x.shape[-1]).to(output.dtype)
        # Detached: torch 2.0 cannot find a saved leaf again when the step is checkpointed.
        small_down, small_up = down.detach().to(output.dtype), up.detach().to(output.dtype)
        hidden = flat.mm(small_down.t())
        ctx.save_for_backward(flat, hidden, small_down, small_up)
        ctx.scale, ctx.shape, ctx.x_dtype = scale, x.shape, x.dtype
        ctx.gradients = (down.grad, up.grad)
        wide = output.reshape(-1, output.shape[-1])
        return torch.addmm(wide, hidden, small_up.t(), alpha=scale).view(output.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        flat, hidden, down, up = ctx.saved_tensors
        wide = gradient.reshape(-1, gradient.shape[-1])
        into_hidden = wide.mm(up).mul_(ctx.scale)
        _add_product(ctx.gradients[0], into_hidden, flat, 1.0)
        _add_product(ctx.gradients[1], wide, hidden, ctx.scale)
        into_x = None
        if ctx.needs_input_grad[0]:
            into_x = into_hidden.mm(down).view(ctx.shape).to(ctx.x_dtype)
        return into_x, gradient, None, None, None


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
    """``total += scale · leftᵀ right``; the sum is kept in fp32 whatever the factors are."""
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right, alpha=scale)
    else:
        total.add_(left.t().mm(right), alpha=scale)


def add_delta(
    module: Any, x: torch.Tensor, output: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scale: float
) -> torch.Tensor:
    """The layer's output with the LoRA's part added.

    Args:
        module: the layer; a convolution gives stride, padding and dilation.
        x: the layer's input, ``(…, in)`` or ``(B, in, h, w)``.
        output: the layer's output.
        down: A, fp32, with a gradient buffer in place.
        up: B, fp32, likewise.
        scale: alpha / rank.

    Returns:
        Same shape and dtype as ``output``.
    """
    if down.ndim == 2:
        return _LinearDelta.apply(x, output, down, up, scale)  # type: ignore[no-any-return,no-untyped-call]
    hidden = functional.conv2d(_match(x, down), down, None, module.stride, module.padding, module.dilation)
    part = functional.conv2d(hidden, up)
    if part.dtype != output.dtype:
        part = part.to(output.dtype)
    return torch.add(output, part, alpha=scale)


def _match(x: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Outside autocast a half-precision input must meet fp32 weights as fp32."""
    return x if x.dtype == down.dtype or torch.is_autocast_enabled() else x.to(down.dtype)
