"""LoKr: the change of the weight is the Kronecker product of a small matrix and one that is smaller by a factor.

Both are trained in full, so neither a rank nor alpha is involved.

Source: LyCORIS, Yeh et al. 2023, https://arxiv.org/abs/2309.14859, for the method, the initial values and the names in
    files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lib_pivotal.core.lora.adapter import Parameters, fill_from_file
from lib_pivotal.core.lora.trained_product import trained_conv2d, trained_linear

__all__ = ["Lokr", "factorized"]


def factorized(count: int, factor: int) -> tuple[int, int]:
    """Split the number of a layer's inputs or outputs into two factors, the smaller one first.

    Args:
        count: the number.
        factor: the wanted one. Where it does not divide the number, the closest smaller one that does is used; 0 means
            factors that are as equal as possible.
    """
    if factor > 0 and count % factor == 0:
        return min(factor, count // factor), max(factor, count // factor)
    largest = min(factor or count, math.isqrt(count))
    small = next(size for size in range(largest, 0, -1) if count % size == 0)
    return small, count // small


class Lokr:
    """LoKr of a Linear layer or convolution; implements ``adapter.Adapter``.

    Args:
        weight_shape: ``(out, in)`` or ``(out, in, kh, kw)``.
        small_shape: shape of the small matrix, whose sides divide those of the weight.
        factor: from which this shape follows, see :func:`factorized`; for metadata only.
    """

    without_decay: frozenset[str] = frozenset()
    rank = 1
    alpha = 1.0

    def __init__(self, weight_shape: tuple[int, ...], small_shape: tuple[int, int], factor: int = 0) -> None:
        self._factor = factor
        self._large_in = weight_shape[1] // small_shape[1]
        large_shape = (weight_shape[0] // small_shape[0], self._large_in, *weight_shape[2:])
        self.shapes: Mapping[str, tuple[int, ...]] = {"w1": small_shape, "w2": large_shape}

    @classmethod
    def with_factor(cls, weight_shape: tuple[int, ...], factor: int) -> Lokr:
        """A new adapter; the larger its factor, the smaller its large matrix."""
        rows, columns = (factorized(count, factor)[0] for count in weight_shape[:2])
        return cls(weight_shape, (rows, columns), factor)

    @torch.no_grad()
    def initialize(self, parameters: Parameters, module: Any, generator: torch.Generator) -> None:
        """Fill the small matrix uniformly with variance 1 / (3 · columns) and the large one with zeros."""
        small = parameters["w1"]
        small.copy_((torch.rand(small.shape, generator=generator) * 2 - 1) / math.sqrt(small.shape[1]))
        parameters["w2"].zero_()

    def delta(self, parameters: Parameters, module: Any) -> torch.Tensor:
        """The change of the layer's weight, fp32, in its shape."""
        small, large = parameters["w1"], parameters["w2"]
        return torch.kron(small.view(*small.shape, *(1 for _ in large.shape[2:])), large)

    def forward(self, module: Any, x: torch.Tensor, output: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """``output``, ``(…, out)`` or ``(B, out, h, w)``, plus what the change makes of the input, in its dtype.

        The Kronecker product is never built: its large factor acts on slices of the input, then the small one mixes
        the results.
        """
        small, large = (parameters[name].to(output.dtype) for name in ("w1", "w2"))
        source, x = x, x.to(output.dtype)
        if large.ndim == 2:
            slices = trained_linear(x.reshape(*x.shape[:-1], small.shape[1], self._large_in), large, source)
            return output + torch.matmul(small, slices).flatten(-2)
        batch = x.shape[0]
        slices = x.reshape(batch * small.shape[1], self._large_in, *x.shape[2:])
        slices = trained_conv2d(slices, large, source, module)
        mixed = torch.matmul(small, slices.reshape(batch, small.shape[1], -1))
        return output + mixed.view(output.shape)

    def delta_norms(self, stacked: Parameters, modules: Sequence[Any]) -> torch.Tensor:
        """See ``adapter.Adapter``: shape ``(n,)``; the norm of a Kronecker product is the product of the norms."""
        product = torch.ones((), device=stacked["w1"].device)
        for value in stacked.values():
            product = product * torch.linalg.vector_norm(value.flatten(1), dim=1)
        return product

    @torch.no_grad()
    def rescale(self, parameters: Parameters, factor: float) -> None:
        """Multiply the large matrix."""
        parameters["w2"].mul_(factor)

    def tensors(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """LyCORIS' ``lokr_w1``, ``lokr_w2`` and ``alpha``, fp32; loaders ignore alpha where there is no rank."""
        values = {f"lokr_{name}": value.detach().cpu().clone() for name, value in parameters.items()}
        return {**values, "alpha": torch.tensor(self.alpha)}

    def load(self, parameters: Parameters, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill both matrices from a file's tensors, whose alpha has no effect.

        Raises:
            ValueError: a tensor is missing or has the wrong shape.
        """
        fill_from_file(parameters, tensors, {name: f"lokr_{name}" for name in parameters})

    def network_args(self) -> dict[str, Any]:
        """LyCORIS' name of the algorithm, its factor, and that no matrix is split."""
        return {"algo": "lokr", "factor": self._factor or -1, "full_matrix": True}
