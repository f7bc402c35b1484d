"""What every kind of adapter can do; a new kind is a file with one class that does it, and a line in ``kinds.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

__all__ = ["Adapter", "Parameters"]

Parameters = Mapping[str, torch.Tensor]
"""The trained tensors of one layer by name, fp32."""


class Adapter(Protocol):
    """A small trained change to one frozen layer; knows the maths and the file format, holds no tensors.

    The layer's weight is ``(out, in)`` or ``(out, in, kh, kw)``; below, ``parameters`` has the names and shapes of
    :attr:`shapes`.
    """

    rank: int
    alpha: float
    """Effective strength is ``alpha / rank``."""
    shapes: Mapping[str, tuple[int, ...]]
    """Parameter name → shape, in a fixed order."""

    def initialize(self, parameters: Parameters, module: Any, generator: torch.Generator) -> None:
        """Fill the parameters in place so that the layer's output does not change.

        Args:
            parameters: to be written.
            module: the layer.
            generator: CPU generator.
        """
        ...

    def forward(self, module: Any, x: torch.Tensor, output: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """The layer's output with the adapter's change.

        Args:
            module: the layer.
            x: its input, ``(…, in)`` or ``(B, in, h, w)``.
            output: its output.
            parameters: with gradient buffers in place.

        Returns:
            Same shape and dtype as ``output``.
        """
        ...

    def delta_weight(self, parameters: Parameters) -> torch.Tensor:
        """What the adapter adds to the layer's weight; fp32, shape of the weight."""
        ...

    def tensors(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """What a file holds for the layer: end of the key → tensor, on the CPU, copies."""
        ...

    def load(self, parameters: Parameters, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill the parameters in place from what :meth:`tensors` gave.

        Raises:
            ValueError: the tensors do not fit the layer.
        """
        ...

    def network_args(self) -> dict[str, Any]:
        """What kohya's ``ss_network_args`` says of layers like this one."""
        ...
