"""Interface of all kinds of adapters; a new kind is a file with one such class plus a line in ``kinds.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

__all__ = ["Adapter", "Forward", "JoinsLayer", "Parameters", "ScalesInput", "fill_from_file"]

Forward = Callable[[torch.Tensor], torch.Tensor]
"""A layer's own forward function."""

Parameters = Mapping[str, torch.Tensor]
"""The trained tensors of a layer: name → fp32 tensor."""


class Adapter(Protocol):
    """A small trained change to a frozen layer; implements the math and the file format, but holds no tensors.

    The layer's weight is ``(out, in)`` or ``(out, in, kh, kw)``; ``parameters`` always has the names and shapes of
    :attr:`shapes`.
    """

    rank: int
    alpha: float
    """Effective strength is ``alpha / rank``."""
    shapes: Mapping[str, tuple[int, ...]]
    """Parameter name → shape, in a fixed order."""
    without_decay: frozenset[str]
    """Names of the parameters that weight decay would harm, because they do not start from a change of zero."""

    def initialize(self, parameters: Parameters, module: Any, generator: torch.Generator) -> None:
        """Initialize the parameters in place so that the layer's output does not change.

        Args:
            parameters: tensors to fill.
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

    def delta(self, parameters: Parameters, module: Any) -> torch.Tensor:
        """The adapter's change of the layer's weight, fp32, in its shape.

        Args:
            parameters: trained values.
            module: the layer.
        """
        ...

    def delta_norms(self, stacked: Parameters, modules: Sequence[Any]) -> torch.Tensor:
        """Frobenius norms of the changes of several layers like this one, shape ``(n,)``.

        Args:
            stacked: their parameters, each with a first dimension of ``n``.
            modules: the ``n`` layers.
        """
        ...

    def rescale(self, parameters: Parameters, factor: float) -> None:
        """Multiply the adapter's change by a factor, in place."""
        ...

    def tensors(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """The layer's tensors in a file: suffix of the key → copied tensor on the CPU."""
        ...

    def load(self, parameters: Parameters, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load the parameters in place from tensors as returned by :meth:`tensors`, as strong as they are there.

        Raises:
            ValueError: the tensors do not fit the layer.
        """
        ...

    def network_args(self) -> dict[str, Any]:
        """Entries of kohya's ``ss_network_args`` for layers like this one."""
        ...


@runtime_checkable
class ScalesInput(Protocol):
    """What an adapter has in addition if it also changes the input of its layer."""

    def scaled_input(self, module: Any, x: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """What the layer gets instead of its input.

        Args:
            module: the layer.
            x: its input, ``(…, in)`` or ``(B, in, h, w)``.
            parameters: as in :meth:`Adapter.forward`.

        Returns:
            Same shape and dtype as ``x``.
        """
        ...


@runtime_checkable
class JoinsLayer(Protocol):
    """What an adapter has in addition if it can run its layer itself, which saves time and memory in training."""

    def joined(self, module: Any, forward: Forward, parameters: Parameters) -> Forward:
        """A function that gives the same as :meth:`Adapter.forward` on the layer's output, up to rounding.

        Args:
            module: the layer, with ``weight`` ``(out, in)``.
            forward: its own forward function, which returns a new tensor.
            parameters: with gradient buffers in place.

        Returns:
            Takes the layer's input, ``(…, in)``.
        """
        ...


@torch.no_grad()
def fill_from_file(parameters: Parameters, tensors: Mapping[str, torch.Tensor], keys: Mapping[str, str]) -> None:
    """Fill parameters in place from a file's tensors.

    Args:
        parameters: the parameters.
        tensors: suffix of the key → tensor.
        keys: parameter name → suffix of the key.

    Raises:
        ValueError: a tensor is missing or has the wrong shape.
    """
    for name, value in parameters.items():
        stored = tensors.get(keys[name])
        if stored is None or stored.shape != value.shape:
            raise ValueError(f"{keys[name]} does not fit {tuple(value.shape)}")
        value.copy_(stored)
