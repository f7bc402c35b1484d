"""Frozen convolutions and Linear layers that keep nothing: their weights never get a gradient."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["frozen_convolution", "frozen_linear", "is_plain_convolution"]


def is_plain_convolution(module: Any) -> bool:
    """Whether a module is a 2D convolution with zeros as its padding."""
    is_numeric = not isinstance(getattr(module, "padding", ""), str)
    return isinstance(module, torch.nn.Conv2d) and module.padding_mode == "zeros" and is_numeric


def frozen_convolution(module: Any, forward: Any, x: torch.Tensor) -> torch.Tensor:
    """The output of a frozen convolution; torch would keep its input and, under autocast, a copy of its weight.

    Args:
        module: see :func:`is_plain_convolution`.
        forward: its own forward function.
        x: shape ``(B, in, h, w)``.
    """
    result: torch.Tensor = _Convolution.apply(x, module, forward)  # type: ignore[no-untyped-call]
    return result


def frozen_linear(module: Any, forward: Any, x: torch.Tensor) -> torch.Tensor:
    """The output of a frozen Linear layer; under autocast, torch would keep a copy of its weight.

    Args:
        module: the layer, with ``weight`` ``(out, in)``.
        forward: its own forward function.
        x: shape ``(…, in)``.
    """
    result: torch.Tensor = _Linear.apply(x, module, forward)  # type: ignore[no-untyped-call]
    return result


class _Frozen(torch.autograd.Function):
    """A layer's own forward pass, of which nothing is kept but the shape and the type of the input."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, module: Any, forward: Any) -> torch.Tensor:
        ctx.module, ctx.shape, ctx.dtype = module, x.shape, x.dtype
        output: torch.Tensor = forward(x)
        return output


class _Convolution(_Frozen):
    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        module = ctx.module
        # Of the input, only the shape matters for its own gradient.
        x = gradient.new_empty(1).expand(ctx.shape)
        into_x, _, _ = torch.ops.aten.convolution_backward(
            gradient, x, module.weight.to(gradient.dtype), None, module.stride, module.padding, module.dilation,
            False, (0, 0), module.groups, (True, False, False),
        )  # fmt: skip
        return into_x.to(ctx.dtype), None, None


class _Linear(_Frozen):
    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        wide = gradients[0].reshape(-1, gradients[0].shape[-1])
        return wide.mm(ctx.module.weight.to(wide.dtype)).view(ctx.shape).to(ctx.dtype), None, None
