"""The change of a weight that does to each bundle's inputs what that bundle's own change does, and its low rank.

Source: Jin et al. 2022 (RegMean), equation 2, https://arxiv.org/abs/2212.09849; Gu et al. 2023 (Mix-of-Show),
    section 3.3, https://arxiv.org/abs/2305.18292, for fusing LoRAs of concepts this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lib_pivotal.core.fuse.layer_rows import LayerRows

__all__ = ["Fused", "fuse_layer", "output_energy"]

_RIDGE = 1e-6
"""Share of a Gram matrix's trace on the diagonal; bounds the condition number by its inverse."""
_TINY = 1e-12


@dataclass(frozen=True)
class Fused:
    """The fused change of a layer as a LoRA with alpha = rank; fp32.

    Attributes:
        down: shape ``(rank, in)`` or ``(rank, in, kh, kw)``.
        up: shape ``(out, rank)`` or ``(out, rank, 1, 1)``.
    """

    down: torch.Tensor
    up: torch.Tensor

    @property
    def delta(self) -> torch.Tensor:
        """The change of the layer's weight, in its shape."""
        return (self.up.flatten(1) @ self.down.flatten(1)).view(len(self.up), *self.down.shape[1:])


def fuse_layer(
    rows: LayerRows, deltas: Sequence[torch.Tensor | None], grams: Sequence[torch.Tensor], rank: int
) -> Fused:
    """Solve the least squares problem of one layer.

    Directions that no bundle's inputs have get the mean of the changes, so that a bundle alone, or several equal ones,
    stay exactly what they are.

    Args:
        rows: how the layer's inputs and weights become rows.
        deltas: change of the layer's weight by each bundle, in the weight's shape; None for a bundle without one.
        grams: mean of ``x xᵀ`` over the rows ``x`` of each bundle's inputs, shape ``(width, width)``.
        rank: of the result; less than the sum of the bundles' ranks loses what matters least on these inputs.
    """
    metrics = [_with_ridge(gram.double()) for gram in grams]
    total = torch.stack(metrics).sum(0)
    changes = torch.stack(
        [
            rows.matrix(delta.double()) @ metric
            for delta, metric in zip(deltas, metrics, strict=True)
            if delta is not None
        ]
    ).sum(0)
    lower = torch.linalg.cholesky(total)
    solved = torch.cholesky_solve(changes.t(), lower).t()
    # The best low rank for these inputs is the best one in their metric.
    scaled = rows.weight(solved @ lower)
    up, down = _truncated(scaled.flatten(1), rank)
    shaped = rows.matrix(down.view(len(down), *scaled.shape[1:]))
    down = rows.weight(torch.linalg.solve_triangular(lower, shaped, upper=False, left=False))
    # Balanced, so that neither is too small for fp16.
    norms = (side.norm(dim=dim).clamp(min=_TINY) for side, dim in ((down.flatten(1), 1), (up, 0)))
    factor = (next(norms) / next(norms)).sqrt()
    up = (up * factor).view(*up.shape, *(1 for _ in down.shape[2:]))
    return Fused((down / factor.view(-1, *(1 for _ in down.shape[1:]))).float(), up.float())


def _with_ridge(gram: torch.Tensor) -> torch.Tensor:
    ridge = (_RIDGE * gram.trace()).clamp(min=_TINY)
    return gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def _truncated(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best factors ``(out, rank)`` and ``(rank, in)`` of a matrix."""
    rank = min(rank, *matrix.shape)
    if matrix.shape[0] <= matrix.shape[1]:
        up = torch.linalg.eigh(matrix @ matrix.t()).eigenvectors[:, -rank:]
        return up, up.t() @ matrix
    down = torch.linalg.eigh(matrix.t() @ matrix).eigenvectors[:, -rank:].t()
    return matrix @ down.t(), down


def output_energy(rows: LayerRows, delta: torch.Tensor, gram: torch.Tensor) -> float:
    """Mean squared norm of what a change of the weight adds to the layer's outputs.

    Args:
        rows: how the layer's inputs and weights become rows.
        delta: the change, in the weight's shape.
        gram: see :func:`fuse_layer`.
    """
    matrix = rows.matrix(delta.double())
    return float(((matrix @ gram.double()) * matrix).sum().clamp(min=0.0))
