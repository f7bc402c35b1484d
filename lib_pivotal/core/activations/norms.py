"""Frozen norms that keep nothing but their input, in its own precision."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from lib_pivotal.core.activations.remade import Remade, mark, remade

__all__ = ["group_norm", "layer_norm", "silu"]

Forward = Any
"""A layer's own forward function."""


def layer_norm(module: Any, forward: Forward, x: torch.Tensor) -> torch.Tensor:
    """A frozen ``LayerNorm`` over the last axis, whose output is made again where it is needed in backward.

    Args:
        module: the norm.
        forward: its own forward function.
        x: shape ``(…, width)``.

    Returns:
        The same as ``forward``, bit by bit, and so are the gradients.
    """

    def make(kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shape, weight, bias = module.normalized_shape, module.weight, module.bias
        return torch.native_layer_norm(_in(norm.dtype, kept), shape, _wide(norm, weight), _wide(norm, bias), module.eps)

    def back(gradient: torch.Tensor, kept: torch.Tensor, made: tuple[torch.Tensor, ...]) -> torch.Tensor:
        x = _in(norm.dtype, kept)
        weight, bias = _wide(norm, module.weight), _wide(norm, module.bias)
        shape = module.normalized_shape
        into_x: torch.Tensor
        into_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, shape, made[1], made[2], weight, bias, (True, False, False)
        )
        return into_x

    norm = _Norm(Remade(make), back)
    return norm(forward, x)


def group_norm(module: Any, forward: Forward, x: torch.Tensor) -> torch.Tensor:
    """A frozen ``GroupNorm``; see :func:`layer_norm`.

    Args:
        module: the norm.
        forward: its own forward function.
        x: shape ``(B, C, h, w)``.

    Host: ldm/modules/diffusionmodules/util.py, ``GroupNorm32``, A1111 1.6.1-1.10.1: computes in fp32 and returns the
        input's precision.
    """

    def make(kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = _in(norm.dtype, kept).contiguous()
        batch, channels, cells = x.shape[0], x.shape[1], x[0, 0].numel()
        weight, bias = _wide(norm, module.weight), _wide(norm, module.bias)
        output, *rest = torch.native_group_norm(x, weight, bias, batch, channels, cells, module.num_groups, module.eps)
        return (_in(norm.output_dtype, output), *rest)

    def back(gradient: torch.Tensor, kept: torch.Tensor, made: tuple[torch.Tensor, ...]) -> torch.Tensor:
        x = _in(norm.dtype, kept).contiguous()
        gradient = _in(norm.dtype, gradient).contiguous()
        batch, channels, cells = x.shape[0], x.shape[1], x[0, 0].numel()
        into_x: torch.Tensor
        into_x, _, _ = torch.ops.aten.native_group_norm_backward(
            gradient, x, made[1], made[2], _wide(norm, module.weight), batch, channels, cells, module.num_groups,
            (True, False, False),
        )  # fmt: skip
        return into_x

    norm = _Norm(Remade(make), back, always_fp32=any(base.__name__ == "GroupNorm32" for base in type(module).__mro__))
    return norm(forward, x)


def silu(module: Any, forward: Forward, x: torch.Tensor) -> torch.Tensor:
    """A ``SiLU`` after such a norm, which keeps only the norm's input; any other one is left as it is.

    Args:
        module: the activation.
        forward: its own forward function.
        x: any shape.
    """
    noted = remade(x)
    if noted is None:
        result: torch.Tensor = forward(x)
        return result
    kept, how = noted
    own = Remade(lambda kept: (functional.silu(how.again(kept)[0]),), parent=how)
    if x.requires_grad:
        how.reserve()
    output: torch.Tensor = _Silu.apply(x, kept, how)  # type: ignore[no-untyped-call]
    mark(output, kept, own)
    return output


class _Norm:
    """One call of a norm."""

    def __init__(self, how: Remade, back: Any, *, always_fp32: bool = False) -> None:
        self.how, self.back = how, back
        self._always_fp32 = always_fp32
        self.dtype = self.output_dtype = torch.float32

    def __call__(self, forward: Forward, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            self.how.reserve()
        output: torch.Tensor = _Normed.apply(x, forward, self)  # type: ignore[no-untyped-call]
        # Autocast decides about the precision, and is off in the backward pass.
        self.output_dtype = output.dtype
        self.dtype = torch.float32 if self._always_fp32 else output.dtype
        mark(output, x, self.how)
        return output


class _Normed(torch.autograd.Function):
    """A norm that keeps only its input."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, forward: Forward, norm: _Norm) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.norm = norm
        output: torch.Tensor = forward(x)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        norm: _Norm = ctx.norm
        return norm.back(gradients[0], x, norm.how.again(x)).to(x.dtype), None, None


class _Silu(torch.autograd.Function):
    """SiLU of a norm's output that keeps the norm's input."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kept: torch.Tensor, how: Remade) -> torch.Tensor:
        ctx.save_for_backward(kept)
        ctx.how = how
        return functional.silu(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (kept,) = ctx.saved_tensors
        normed = ctx.how.again(kept)[0]
        return torch.ops.aten.silu_backward(gradients[0], normed), None, None


def _in(dtype: torch.dtype, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _wide(norm: _Norm, weight: torch.Tensor | None) -> torch.Tensor | None:
    """A weight as autocast gives it to a norm in fp32; norms in lower precision take it as it is."""
    return weight.float() if weight is not None and norm.dtype == torch.float32 else weight
