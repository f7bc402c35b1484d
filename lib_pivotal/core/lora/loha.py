"""LoHa: the change of the weight is the element-wise product of two low-rank matrices, whose rank is up to rank².

Source: Hyeon-Woo et al. 2022, https://arxiv.org/abs/2108.06098, and LyCORIS, https://arxiv.org/abs/2309.14859, for the
    initial values and the names in files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from lib_pivotal.core.activations.remade import Remade, kept_for
from lib_pivotal.core.lora.adapter import Parameters, fill_from_file

__all__ = ["FusedLoha", "Loha"]

_W1_STD = 0.1
_NAMES = ("w1_a", "w1_b", "w2_a", "w2_b")


class Loha:
    """LoHa of a Linear layer or convolution with plain autograd; implements ``adapter.Adapter``.

    Args:
        weight_shape: ``(out, in)`` or ``(out, in, kh, kw)``.
        rank: rank of each of the two matrices.
        alpha: strength is alpha / rank.
    """

    without_decay: frozenset[str] = frozenset()

    def __init__(self, weight_shape: tuple[int, ...], rank: int, alpha: float) -> None:
        self.rank, self.alpha = rank, alpha
        self.scale = alpha / rank
        self._weight_shape = weight_shape
        flat_in = torch.Size(weight_shape[1:]).numel()
        left, right = (weight_shape[0], rank), (rank, flat_in)
        self.shapes: Mapping[str, tuple[int, ...]] = {"w1_a": left, "w1_b": right, "w2_a": left, "w2_b": right}

    @torch.no_grad()
    def initialize(self, parameters: Parameters, module: Any, generator: torch.Generator) -> None:
        """Fill three factors with noise, ``w1_a`` with a small one, and ``w2_a`` with zeros."""
        for name, std in (("w1_a", _W1_STD), ("w1_b", 1.0), ("w2_b", 1.0)):
            value = parameters[name]
            value.copy_(torch.randn(value.shape, generator=generator) * std)
        parameters["w2_a"].zero_()

    def delta(self, parameters: Parameters, module: Any) -> torch.Tensor:
        """The change of the layer's weight, fp32, in its shape."""
        w1_a, w1_b, w2_a, w2_b = (parameters[name] for name in _NAMES)
        return _delta(w1_a, w1_b, w2_a, w2_b, self.scale).view(self._weight_shape)

    def forward(self, module: Any, x: torch.Tensor, output: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """``output``, ``(…, out)`` or ``(B, out, h, w)``, plus what the change makes of the input, in its dtype."""
        weight = self.delta(parameters, module).to(output.dtype)
        x = x.to(output.dtype)
        if weight.ndim == 2:
            return output + functional.linear(x, weight)
        return output + functional.conv2d(x, weight, None, module.stride, module.padding, module.dilation)

    def delta_norms(self, stacked: Parameters, modules: Sequence[Any]) -> torch.Tensor:
        """See ``adapter.Adapter``: shape ``(n,)``; one change after the other is built, which bounds the memory."""
        norms = []
        for number, module in enumerate(modules):
            change = self.delta({name: stacked[name][number] for name in _NAMES}, module)
            norms.append(torch.linalg.vector_norm(change))
        return torch.stack(norms)

    @torch.no_grad()
    def rescale(self, parameters: Parameters, factor: float) -> None:
        """Multiply ``w2_a``."""
        parameters["w2_a"].mul_(factor)

    def tensors(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """LyCORIS' ``hada_w1_a`` … ``hada_w2_b`` and ``alpha``, fp32."""
        values = {f"hada_{name}": parameters[name].detach().cpu().clone() for name in _NAMES}
        return {**values, "alpha": torch.tensor(self.alpha)}

    def load(self, parameters: Parameters, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill the factors from a file's tensors.

        Raises:
            ValueError: a tensor is missing or has the wrong shape.
        """
        fill_from_file(parameters, tensors, {name: f"hada_{name}" for name in _NAMES})
        # Without an alpha, LyCORIS uses the rank.
        alpha = float(tensors.get("alpha", self.rank))
        if alpha != self.alpha:
            self.rescale(parameters, alpha / self.alpha)

    def network_args(self) -> dict[str, Any]:
        """LyCORIS' name of the algorithm, and of the rank of convolutions."""
        return {"algo": "loha", **({"conv_dim": self.rank} if len(self._weight_shape) > 2 else {})}


def _delta(
    w1_a: torch.Tensor, w1_b: torch.Tensor, w2_a: torch.Tensor, w2_b: torch.Tensor, scale: float
) -> torch.Tensor:
    """``scale · (w1_a w1_b) ∘ (w2_a w2_b)``, shape ``(out, in · kh · kw)``."""
    # At the beginning w2_a is so small that in fp16 little would be left of it.
    with torch.autocast(w1_a.device.type, enabled=False):
        return scale * (w1_a @ w1_b) * (w2_a @ w2_b)


class FusedLoha(Loha):
    """:class:`Loha` with a custom backward pass, which builds the change again instead of keeping it.

    The change is as large as the layer's weight, so keeping it for the backward pass would take as much memory as the
    whole model. The gradients of the factors are added to existing buffers; hooks on them are not called.
    """

    def forward(self, module: Any, x: torch.Tensor, output: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Like :meth:`Loha.forward`, up to rounding; same shapes."""
        window = None if len(self._weight_shape) == 2 else (module.stride, module.padding, module.dilation)
        factors = [parameters[name] for name in _NAMES]
        result: torch.Tensor = _FusedDelta.apply(
            x, output, *kept_for(x), *factors, self.scale, self._weight_shape, window
        )  # type: ignore[no-untyped-call]
        return result


class _FusedDelta(torch.autograd.Function):
    """``output`` plus the layer with ``scale · (w1_a w1_b) ∘ (w2_a w2_b)`` as its weight."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, output: torch.Tensor, kept: torch.Tensor, how: Remade | None,
                w1_a: torch.Tensor, w1_b: torch.Tensor, w2_a: torch.Tensor, w2_b: torch.Tensor, scale: float,
                shape: tuple[int, ...], window: tuple[Any, Any, Any] | None) -> torch.Tensor:  # fmt: skip
        factors = (w1_a, w1_b, w2_a, w2_b)
        ctx.x_dtype = x.dtype
        x = x.to(output.dtype)
        # Detached, because torch 2.0 cannot find a saved leaf again with gradient checkpointing.
        ctx.save_for_backward(x if how is None else kept, *(factor.detach() for factor in factors))
        ctx.how = how
        ctx.gradients = tuple(factor.grad for factor in factors)
        ctx.scale, ctx.shape, ctx.window = scale, shape, window
        weight = _delta(*factors, scale).view(shape).to(output.dtype)
        if window is None:
            wide = output.reshape(-1, output.shape[-1])
            return torch.addmm(wide, x.reshape(-1, x.shape[-1]), weight.t()).view(output.shape)
        stride, padding, dilation = window
        return functional.conv2d(x, weight, None, stride, padding, dilation).add_(output)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        kept, w1_a, w1_b, w2_a, w2_b = ctx.saved_tensors
        x = kept if ctx.how is None else ctx.how.again(kept)[0].to(gradient.dtype)
        first, second = w1_a @ w1_b, w2_a @ w2_b
        weight = (first * second).mul_(ctx.scale).view(ctx.shape).to(gradient.dtype)
        needs_x = ctx.needs_input_grad[0]
        if ctx.window is None:
            wide = gradient.reshape(-1, gradient.shape[-1])
            into_weight = wide.t().mm(x.reshape(-1, x.shape[-1]))
            into_x = wide.mm(weight).view(x.shape) if needs_x else None
        else:
            stride, padding, dilation = ctx.window
            into_x, into_weight, _ = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, stride, padding, dilation, False, (0, 0), 1, (needs_x, True, False)
            )
        into_weight = into_weight.reshape(first.shape).float().mul_(ctx.scale)
        into_first, into_second = into_weight * second, into_weight.mul_(first)
        ctx.gradients[0].addmm_(into_first, w1_b.t())
        ctx.gradients[1].addmm_(w1_a.t(), into_first)
        ctx.gradients[2].addmm_(into_second, w2_b.t())
        ctx.gradients[3].addmm_(w2_a.t(), into_second)
        return into_x if into_x is None else into_x.to(ctx.x_dtype), gradient, *[None] * 9
