"""The product of a layer's input with a trained weight, which keeps no input that can be made again."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from lib_pivotal.core.activations.remade import Remade, kept_for, remade

__all__ = ["trained_conv2d", "trained_linear"]


def trained_linear(x: torch.Tensor, weight: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """``x weightᵀ``, shape ``(…, out)``.

    Args:
        x: shape ``(…, in)``: the source in any shape and dtype.
        weight: shape ``(out, in)``.
        source: the layer's input.
    """
    return _product(x, weight, source, None)


def trained_conv2d(x: torch.Tensor, weight: torch.Tensor, source: torch.Tensor, module: Any) -> torch.Tensor:
    """The convolution of ``x`` with a weight, with the stride, padding and dilation of a layer.

    Args:
        x: shape ``(B, in, h, w)``: the source in any shape and dtype.
        weight: shape ``(out, in, kh, kw)``.
        source: the layer's input.
        module: the layer.
    """
    return _product(x, weight, source, (module.stride, module.padding, module.dilation))


def _product(x: torch.Tensor, weight: torch.Tensor, source: torch.Tensor, window: Any) -> torch.Tensor:
    if remade(source) is None:
        return _plain(x, weight, window)
    result: torch.Tensor = _Product.apply(x, weight, *kept_for(source), window)  # type: ignore[no-untyped-call]
    return result


def _plain(x: torch.Tensor, weight: torch.Tensor, window: Any) -> torch.Tensor:
    if window is None:
        return functional.linear(x, weight)
    return functional.conv2d(x, weight, None, *window)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, kept: torch.Tensor, how: Remade,
                window: Any) -> torch.Tensor:  # fmt: skip
        ctx.save_for_backward(kept, weight.detach())
        ctx.how, ctx.window, ctx.shape, ctx.dtypes = how, window, x.shape, (x.dtype, weight.dtype)
        return _plain(x, weight, window)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        kept, weight = ctx.saved_tensors
        weight = weight.to(gradient.dtype)
        x = ctx.how.again(kept)[0].reshape(ctx.shape).to(gradient.dtype)
        needs_x = ctx.needs_input_grad[0]
        if ctx.window is None:
            wide = gradient.reshape(-1, gradient.shape[-1])
            into_weight = wide.t().mm(x.reshape(-1, x.shape[-1]))
            into_x = wide.mm(weight).view(x.shape) if needs_x else None
        else:
            into_x, into_weight, _ = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, *ctx.window, False, (0, 0), 1, (needs_x, True, False)
            )
        x_dtype, weight_dtype = ctx.dtypes
        return None if into_x is None else into_x.to(x_dtype), into_weight.to(weight_dtype), None, None, None
