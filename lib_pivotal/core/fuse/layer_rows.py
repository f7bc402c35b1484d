"""Writes a layer as a product of a matrix with rows: the rows are its inputs, the matrix is its weight."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

__all__ = ["LayerRows"]

_WIDEST = 6144
"""Patches of a convolution are rows up to this width; wider ones would need gigabytes per layer."""


class LayerRows:
    """The rows of a Linear layer are its tokens; those of a convolution are the patches that its kernel sees.

    Where patches are too wide, the rows of a convolution are pixels: each tap of the kernel then counts as a layer of
    its own, as if neighboring pixels had nothing in common.

    Args:
        module: the layer; its weight is ``(out, in)`` or ``(out, in, kh, kw)``.

    Attributes:
        width: length of a row.

    Source: Grosse & Martens 2016, section 3, https://arxiv.org/abs/1602.01407, for pixels instead of patches.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        shape = tuple(module.weight.shape)
        self._taps = math.prod(shape[2:])
        self._is_conv = len(shape) > 2
        self._has_pixels = self._taps > 1 and shape[1] * self._taps > _WIDEST
        self._kernel = shape[2:]
        self.width = shape[1] if self._has_pixels else shape[1] * self._taps

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of an input, shape ``(B, n, width)``, in the input's dtype.

        Args:
            x: ``(…, in)`` or ``(B, in, h, w)``.
        """
        if not self._is_conv:
            return x.reshape(-1, *x.shape[-2:]) if x.ndim > 2 else x[:, None]
        if self._has_pixels or self._taps == 1:
            return x.flatten(2).transpose(1, 2)
        module = self._module
        patches = functional.unfold(x, self._kernel, module.dilation, module.padding, module.stride)
        return patches.transpose(1, 2)

    def matrix(self, weight: torch.Tensor) -> torch.Tensor:
        """A weight of this layer's kernel as a matrix, shape ``(m, width)``.

        Args:
            weight: ``(out, in)`` or ``(out, in, kh, kw)`` with any number of outputs.
        """
        if self._has_pixels:
            return weight.permute(0, 2, 3, 1).reshape(-1, self.width)
        return weight.flatten(1)

    def weight(self, matrix: torch.Tensor) -> torch.Tensor:
        """The weight whose :meth:`matrix` this is, shape ``(out, in)`` or ``(out, in, kh, kw)``.

        Args:
            matrix: shape ``(m, width)``.
        """
        if self._has_pixels:
            return matrix.view(-1, *self._kernel, self.width).permute(0, 3, 1, 2)
        return matrix.view(len(matrix), -1, *self._kernel) if self._is_conv else matrix
