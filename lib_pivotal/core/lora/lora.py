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
from lib_pivotal.core.lora.adapter import Forward, Parameters, fill_from_file
from lib_pivotal.core.lora.frozen_weight import frozen_weight
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
    and nothing else. It needs existing gradient buffers, and hooks on these gradients are not called. Implements
    ``adapter.JoinsLayer``, too: then autograd sees one function for layer and LoRA, and neither the output nor the
    gradient of the input is written a second time.
    """

    def forward(self, module: Any, x: torch.Tensor, output: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Like :meth:`Lora.forward`, up to rounding; same shapes."""
        return _applied(_Trained(parameters, self.scale), x, output)

    def joined(self, module: Any, forward: Forward, parameters: Parameters) -> Forward:
        """See ``adapter.JoinsLayer``: like :meth:`forward` on the layer's output, up to rounding; same shapes."""
        trained = _Trained(parameters, self.scale, module, forward)
        return lambda x: _applied(trained, x, None)


_Values = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class _Trained:
    """A and B of a layer and all that computing with them takes, gathered once; what it refers to stays in place.

    Args:
        parameters: A and B.
        scale: alpha / rank.
        module: the layer that is computed, too; None if its output is given.
        forward: its own forward function.
    """

    def __init__(
        self, parameters: Parameters, scale: float, module: Any = None, forward: Forward | None = None
    ) -> None:
        self.scale, self.module, self.forward = scale, module, forward
        self.leaf = down = parameters["down"]
        self.gradients = down.grad, parameters["up"].grad
        self._dtype = down.dtype
        self._parameters = parameters
        # Detached, because torch 2.0 cannot find a saved leaf again with checkpointing.
        self._values = _with_transposes(down.detach(), parameters["up"].detach())

    def values(self, dtype: torch.dtype) -> _Values:
        """A, B, Aᵀ and Bᵀ in some dtype, without gradients."""
        if dtype == self._dtype:
            return self._values
        parameters = self._parameters
        if isinstance(parameters, Leaves):
            return _with_transposes(parameters.converted("down", dtype), parameters.converted("up", dtype))
        return _with_transposes(parameters["down"].detach().to(dtype), parameters["up"].detach().to(dtype))


def _with_transposes(down: torch.Tensor, up: torch.Tensor) -> _Values:
    return down, up, down.t(), up.t()


def _applied(trained: _Trained, x: torch.Tensor, output: torch.Tensor | None) -> torch.Tensor:
    # Tells autograd that something is trained, if nothing else does; each leaf costs time in the backward pass.
    leaf = None if x.requires_grad else trained.leaf
    result: torch.Tensor = _Fused.apply(x, output, *kept_for(x), leaf, trained)  # type: ignore[no-untyped-call]
    return result


class _Fused(torch.autograd.Function):
    """``output + scale · (x Aᵀ) Bᵀ``, where the output is given or that of a frozen layer.

    Each tensor that is passed in or saved costs some microseconds. So what outlives the step anyway is not saved.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, output: torch.Tensor | None, kept: torch.Tensor, how: Remade | None,
                leaf: torch.Tensor | None, trained: _Trained) -> torch.Tensor:  # fmt: skip
        own = None if trained.forward is None else trained.forward(x)
        before = output if own is None else own
        assert before is not None
        dtype = before.dtype
        values = trained.values(dtype)
        _, _, down_transposed, up_transposed = values
        # What is saved is made of the detached input, see ``kept_for``.
        flat = (kept if how is None else x).reshape(-1, x.shape[-1])
        flat = flat if flat.dtype == dtype else flat.to(dtype)
        hidden = flat.mm(down_transposed)
        ctx.save_for_backward(flat if how is None else kept, hidden)
        ctx.how, ctx.trained, ctx.values, ctx.shape, ctx.dtype = how, trained, values, x.shape, x.dtype
        wide = before.reshape(-1, before.shape[-1])
        if own is None:
            return torch.addmm(wide, hidden, up_transposed, alpha=trained.scale).view(before.shape)
        # Only what this function has made itself may be changed in place.
        return wide.addmm_(hidden, up_transposed, alpha=trained.scale).view(before.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        kept, hidden = ctx.saved_tensors
        how, trained = ctx.how, ctx.trained
        scale, module, dtype = trained.scale, trained.module, gradient.dtype
        flat = kept if how is None else how.again(kept)[0]
        flat = flat.reshape(-1, flat.shape[-1])
        flat = flat if flat.dtype == dtype else flat.to(dtype)
        wide = gradient.reshape(-1, gradient.shape[-1])
        down, up, _, _ = ctx.values
        into_hidden = wide.mm(up)
        into_down, into_up = trained.gradients
        _add_product(into_down, into_hidden, flat, scale)
        _add_product(into_up, wide, hidden, scale)
        into_x = None
        if ctx.needs_input_grad[0]:
            if module is None:
                # With beta 0 the first argument only gives the shape.
                into_x = torch.addmm(flat, into_hidden, down, beta=0, alpha=scale)
            else:
                weight = module.weight
                weight = weight if weight.dtype == dtype else frozen_weight(module).to(dtype)
                into_x = wide.mm(weight).addmm_(into_hidden, down, alpha=scale)
            into_x = into_x.view(ctx.shape)
            into_x = into_x if dtype == ctx.dtype else into_x.to(ctx.dtype)
        return into_x, None if module is not None else gradient, None, None, None, None


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
    """``total += scale · leftᵀ right``; the sum is in fp32 for factors of any dtype."""
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right, alpha=scale)
    else:
        total.add_(left.t().mm(right), alpha=scale)
