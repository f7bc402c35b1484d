"""LoRA of a Linear layer: ``W x + (alpha / rank) · B A x``.

Source: Hu et al. 2021, section 4.1, https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from lib_pivotal.core.activations.remade import Remade, kept_for
from lib_pivotal.core.lora.adapter import Parameters, fill_from_file
from lib_pivotal.core.optim.flat import Leaves

__all__ = ["FusedLora", "Lora"]


class Lora:
    """LoRA of a Linear layer with plain autograd; implements ``adapter.Adapter``.

    Args:
        weight_shape: ``(out, in)``.
        rank: rank of A and B.
        alpha: strength is alpha / rank.
    """

    without_decay: frozenset[str] = frozenset()

    def __init__(self, weight_shape: tuple[int, ...], rank: int, alpha: float) -> None:
        self.rank, self.alpha = rank, alpha
        self.scale = alpha / rank
        self.shapes: Mapping[str, tuple[int, ...]] = {
            "down": (rank, *weight_shape[1:]),
            "up": (weight_shape[0], rank, *(1 for _ in weight_shape[2:])),
        }

    @torch.no_grad()
    def initialize(self, parameters: Parameters, module: Any, generator: torch.Generator) -> None:
        """Fill A uniformly with variance 1 / (3 · fan_in) and B with zeros."""
        down = parameters["down"]
        bound = 1.0 / math.sqrt(down[0].numel())
        down.copy_((torch.rand(down.shape, generator=generator) * 2 - 1) * bound)
        parameters["up"].zero_()

    def forward(self, module: Any, x: torch.Tensor, output: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """``output + scale · (x Aᵀ) Bᵀ``, shape ``(…, out)``, computed in the output's dtype."""
        down, up = parameters["down"].to(output.dtype), parameters["up"].to(output.dtype)
        delta = functional.linear(functional.linear(x.to(output.dtype), down), up)
        return torch.add(output, delta.to(output.dtype), alpha=self.scale)

    def tensors(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Kohya's ``lora_down.weight``, ``lora_up.weight`` and ``alpha``, fp32."""
        return {
            "lora_down.weight": parameters["down"].detach().cpu().clone(),
            "lora_up.weight": parameters["up"].detach().cpu().clone(),
            "alpha": torch.tensor(self.alpha),
        }

    def delta(self, parameters: Parameters, module: Any) -> torch.Tensor:
        """``alpha / rank · B A``, fp32, in the shape of the layer's weight."""
        down, up = parameters["down"], parameters["up"]
        return (self.scale * up.flatten(1) @ down.flatten(1)).view(up.shape[0], *down.shape[1:])

    def delta_norms(self, stacked: Parameters, modules: Sequence[Any]) -> torch.Tensor:
        """See ``adapter.Adapter``: shape ``(n,)``; ``‖BA‖² = tr(BᵀB · AAᵀ)``, products of the size of the rank."""
        down, up = stacked["down"].flatten(2), stacked["up"].flatten(2)
        inner = (up.transpose(1, 2) @ up) * (down @ down.transpose(1, 2))
        return abs(self.scale) * inner.sum((1, 2)).clamp(min=0.0).sqrt()

    @torch.no_grad()
    def rescale(self, parameters: Parameters, factor: float) -> None:
        """Multiply B."""
        parameters["up"].mul_(factor)

    def load(self, parameters: Parameters, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill A and B from a file's tensors.

        Raises:
            ValueError: a tensor is missing or has the wrong shape.
        """
        fill_from_file(parameters, tensors, {name: f"lora_{name}.weight" for name in parameters})
        # Without an alpha, kohya's programs use the rank.
        alpha = float(tensors.get("alpha", self.rank))
        if alpha != self.alpha:
            self.rescale(parameters, alpha / self.alpha)

    def network_args(self) -> dict[str, Any]:
        """Nothing besides rank and alpha, which kohya stores elsewhere."""
        return {}


class FusedLora(Lora):
    """:class:`Lora` with a custom backward pass, which accumulates the gradients of A and B in place.

    For a small layer, autograd's overhead costs as much as the arithmetic; this does two products forward, four back,
    and nothing else. It needs existing gradient buffers, and hooks on these gradients are not called.
    """

    def forward(self, module: Any, x: torch.Tensor, output: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Like :meth:`Lora.forward`, up to rounding; same shapes."""
        down, up = parameters["down"], parameters["up"]
        small = (_converted(parameters, "down", output.dtype), _converted(parameters, "up", output.dtype))
        result: torch.Tensor = _FusedDelta.apply(  # type: ignore[no-untyped-call]
            x, output, *kept_for(x), down, (down.grad, up.grad), small, self.scale
        )
        return result


def _converted(parameters: Parameters, name: str, dtype: torch.dtype) -> torch.Tensor:
    """A parameter in another dtype; detached, because torch 2.0 cannot find a saved leaf again with checkpointing."""
    if isinstance(parameters, Leaves):
        return parameters.converted(name, dtype)
    return parameters[name].detach().to(dtype)


class _FusedDelta(torch.autograd.Function):
    """``output + scale · (x Aᵀ) Bᵀ``.

    Each tensor that is passed in or saved costs some microseconds. So of the parameters only A is passed in, to tell
    autograd that something is trained, and what outlives the step anyway is not saved.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, output: torch.Tensor, kept: torch.Tensor, how: Remade | None,
                trained: torch.Tensor, gradients: tuple[torch.Tensor, torch.Tensor],
                small: tuple[torch.Tensor, torch.Tensor], scale: float) -> torch.Tensor:  # fmt: skip
        down, up = small
        # What is saved is made of the detached input, see ``kept_for``.
        flat = (kept if how is None else x).reshape(-1, x.shape[-1]).to(output.dtype)
        hidden = flat.mm(down.t())
        ctx.save_for_backward(flat if how is None else kept, hidden)
        ctx.how, ctx.scale, ctx.shape, ctx.x_dtype = how, scale, x.shape, x.dtype
        ctx.gradients, ctx.small = gradients, small
        wide = output.reshape(-1, output.shape[-1])
        return torch.addmm(wide, hidden, up.t(), alpha=scale).view(output.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        kept, hidden = ctx.saved_tensors
        down, up = ctx.small
        x = kept if ctx.how is None else ctx.how.again(kept)[0]
        flat = x.reshape(-1, x.shape[-1]).to(gradient.dtype)
        wide = gradient.reshape(-1, gradient.shape[-1])
        into_hidden = wide.mm(up)
        _add_product(ctx.gradients[0], into_hidden, flat, ctx.scale)
        _add_product(ctx.gradients[1], wide, hidden, ctx.scale)
        into_x = None
        if ctx.needs_input_grad[0]:
            # With beta 0 the first argument only gives the shape.
            into_x = torch.addmm(flat, into_hidden, down, beta=0, alpha=ctx.scale).view(ctx.shape).to(ctx.x_dtype)
        return into_x, gradient, None, None, None, None, None, None


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
    """``total += scale · leftᵀ right``; the sum is in fp32 for factors of any dtype."""
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right, alpha=scale)
    else:
        total.add_(left.t().mm(right), alpha=scale)
