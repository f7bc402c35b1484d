"""How far adapters change the weights of their layers, for all layers of a part at once, and a limit on it."""

from __future__ import annotations

import torch

from lib_pivotal.core.lora.adapter_set import AdaptedLayer, AdapterSet
from lib_pivotal.core.lora.frozen_weight import frozen_weight

__all__ = ["WeightChange"]

_MAX_VALUES = 2**24
"""Number of values that are copied at once."""


class WeightChange:
    """Norms of the changes that the adapters of a part make.

    Layers of the same shapes are computed together, without synchronization and, but for LoHa, without building the
    changes.

    Args:
        part: its adapters; at least one.
    """

    def __init__(self, part: AdapterSet) -> None:
        self.name = part.part
        self._part = part
        alike: dict[object, list[int]] = {}
        for number, layer in enumerate(part.layers):
            adapter = layer.adapter
            alike.setdefault((tuple(adapter.shapes.items()), adapter.alpha), []).append(number)
        chunks = [chunk for numbers in alike.values() for chunk in _chunks(part, numbers)]
        self._groups = [[part.layers[number] for number in chunk] for chunk in chunks]
        device = part.flat.values.device
        self._places = torch.argsort(torch.tensor([number for chunk in chunks for number in chunk])).to(device)
        self._base: torch.Tensor | None = None
        counts = [len(layer.adapter.shapes.keys() - layer.adapter.without_decay) for layer in part.layers]
        leaf_layers = [number for number, count in enumerate(counts) for _ in range(count)]
        self._leaf_layers = torch.tensor(leaf_layers, device=device)
        # A change is a product with one factor per tensor.
        self._shares = 1.0 / torch.tensor(counts, device=device)

    @torch.no_grad()
    def norms(self) -> torch.Tensor:
        """Frobenius norm of the change of each layer's weight, shape ``(layers,)``, in their order."""
        found = []
        for layers in self._groups:
            names = layers[0].parameters
            stacked = {name: torch.stack([layer.parameters[name] for layer in layers]) for name in names}
            found.append(layers[0].adapter.delta_norms(stacked, [layer.target.module for layer in layers]))
        return torch.cat(found)[self._places]

    @torch.no_grad()
    def largest(self) -> torch.Tensor:
        """The largest norm of a change relative to the norm of the layer's own weight, 0-dim."""
        if self._base is None:
            weights = [_weight_norm(layer) for layer in self._part.layers]
            self._base = torch.stack(weights).to(self._places.device).clamp(min=1e-12)
        return (self.norms() / self._base).max()

    @torch.no_grad()
    def limit(self, most: float) -> None:
        """Scale the changes whose norm is above ``most`` (> 0) down to it; the others stay exactly as they are.

        Not for DoRA, whose change cannot be scaled that way.

        Source: the idea of scaling both matrices of a LoRA alike is that of kohya's scripts,
            https://github.com/kohya-ss/sd-scripts.
        """
        factors = (most / self.norms().clamp(min=1e-12)).clamp(max=1.0) ** self._shares
        torch._foreach_mul_(self._part.flat.leaves, factors[self._leaf_layers].unbind())


def _chunks(part: AdapterSet, numbers: list[int]) -> list[list[int]]:
    """Layers of the same shapes, split so that copies of their parameters stay small."""
    size = sum(torch.Size(shape).numel() for shape in part.layers[numbers[0]].adapter.shapes.values())
    most = max(1, _MAX_VALUES // size)
    return [numbers[start : start + most] for start in range(0, len(numbers), most)]


def _weight_norm(layer: AdaptedLayer) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(frozen_weight(layer.target.module), dtype=torch.float32)
    return norm
