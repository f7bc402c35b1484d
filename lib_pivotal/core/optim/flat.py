"""Many small trainable tensors as views of one, so that optimizer, norm and zeroing use a single tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["FlatParameters"]


class FlatParameters:
    """fp32 leaves that share one flat buffer, and one flat gradient buffer.

    Autograd accumulates into existing gradients, so the leaves' gradients always stay views of the flat
    one, and everything after the backward pass uses one tensor instead of hundreds.

    Args:
        name: shown in logs and used in state files.
        shapes: shape of each leaf.
        device: device of the tensors.
    """

    def __init__(self, name: str, shapes: Sequence[tuple[int, ...]], device: torch.device) -> None:
        self.name = name
        sizes = [torch.Size(shape).numel() for shape in shapes]
        self.values = torch.nn.Parameter(torch.zeros(sum(sizes), device=device))
        self.gradient = torch.zeros_like(self.values)
        """Shape ``(count,)``; the leaves' gradients are views of it, even while ``values.grad`` is None."""
        self.values.grad = self.gradient
        self.leaves: list[torch.Tensor] = []
        data = self.values.detach()
        for shape, part, grad in zip(shapes, torch.split(data, sizes), torch.split(self.gradient, sizes), strict=True):
            leaf = part.view(shape).requires_grad_(True)
            leaf.grad = grad.view(shape)
            self.leaves.append(leaf)

    def clear_gradient(self) -> None:
        """Set all gradients to zero, keeping their memory."""
        self.gradient.zero_()
