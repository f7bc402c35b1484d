"""Many small trainable tensors as views of one, so that optimizer, norm and zeroing use a single tensor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch

__all__ = ["FlatParameters", "Leaves"]


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
        self._shapes = list(shapes)
        self._sizes = sizes = [torch.Size(shape).numel() for shape in shapes]
        self._is_fixed = False
        self._converted: torch.Tensor | None = None
        self._converted_leaves: list[torch.Tensor] = []
        self.values = torch.nn.Parameter(torch.zeros(sum(sizes), device=device))
        self.gradient = torch.zeros_like(self.values)
        """Shape ``(count,)``; the leaves' gradients are views of it, even while ``values.grad`` is None."""
        self.values.grad = self.gradient
        self.leaves: list[torch.Tensor] = []
        self._detached: list[torch.Tensor] = []
        data = self.values.detach()
        for shape, part, grad in zip(shapes, torch.split(data, sizes), torch.split(self.gradient, sizes), strict=True):
            self._detached.append(part.view(shape))
            leaf = part.view(shape).requires_grad_(True)
            leaf.grad = grad.view(shape)
            self.leaves.append(leaf)

    @contextlib.contextmanager
    def fixed(self) -> Iterator[None]:
        """Within the context the values do not change, so they are converted to the dtype of a product only once."""
        if self._converted is not None:
            # At the beginning, because a CUDA graph that is replayed within the context reads it.
            self._converted.copy_(self.values.detach())
        self._is_fixed = True
        try:
            yield
        finally:
            self._is_fixed = False

    def leaf_in(self, index: int, dtype: torch.dtype) -> torch.Tensor:
        """A leaf in some dtype, without gradients; in its own dtype it is not copied.

        Args:
            index: of the leaf.
            dtype: the dtype.
        """
        if dtype == self.values.dtype:
            return self._detached[index]
        if not self._is_fixed:
            return self._detached[index].to(dtype)
        if self._converted is None or self._converted.dtype != dtype:
            self._converted = self.values.detach().to(dtype)
            parts = torch.split(self._converted, self._sizes)
            self._converted_leaves = [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return self._converted_leaves[index]

    def clear_gradient(self) -> None:
        """Set all gradients to zero, keeping their memory."""
        self.gradient.zero_()


class Leaves(dict[str, torch.Tensor]):
    """Some leaves by name.

    Args:
        places: name → the flat parameters and the index of the leaf.
    """

    def __init__(self, places: Mapping[str, tuple[FlatParameters, int]]) -> None:
        super().__init__({name: flat.leaves[index] for name, (flat, index) in places.items()})
        self._places = dict(places)

    def converted(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """See :meth:`FlatParameters.leaf_in`."""
        flat, index = self._places[name]
        return flat.leaf_in(index, dtype)
