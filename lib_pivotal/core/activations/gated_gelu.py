"""GEGLU that keeps only the output of its projection; the product with the gate is computed again in backward."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from lib_pivotal.core.activations.remade import Remade, mark

__all__ = ["gated_gelu", "is_gated_gelu"]


def is_gated_gelu(module: Any) -> bool:
    """Whether a module is a GEGLU: a projection to twice the width, one half times the GELU of the other.

    Host: ldm/modules/attention.py and sgm/modules/attention.py, ``GEGLU``, A1111 1.6.1-1.10.1: the projection is
        ``proj``; its second half is the gate. Diffusers' class of the same name does the same.
    """
    return hasattr(module, "proj") and any(base.__name__ == "GEGLU" for base in type(module).__mro__)


def gated_gelu(module: Any, x: torch.Tensor) -> torch.Tensor:
    """The output of a GEGLU, bit by bit, and so are the gradients.

    Args:
        module: see :func:`is_gated_gelu`.
        x: shape ``(…, width)``.
    """
    both: torch.Tensor = module.proj(x)
    how = Remade(_product)
    if both.requires_grad:
        how.reserve()
    output: torch.Tensor = _GatedGelu.apply(both, how)  # type: ignore[no-untyped-call]
    mark(output, both, how)
    return output


def _product(both: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The product and the GELU of the gate."""
    value, gate = both.chunk(2, dim=-1)
    activated = functional.gelu(gate)
    return value * activated, activated


class _GatedGelu(torch.autograd.Function):
    """One half of the last axis times the GELU of the other."""

    @staticmethod
    def forward(ctx: Any, both: torch.Tensor, how: Remade) -> torch.Tensor:
        ctx.save_for_backward(both)
        ctx.how = how
        return _product(both)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        (both,) = ctx.saved_tensors
        _, activated = ctx.how.again(both)
        value, gate = both.chunk(2, dim=-1)
        into_gate = torch.ops.aten.gelu_backward(gradient * value, gate)
        return torch.cat([gradient * activated, into_gate], dim=-1), None
