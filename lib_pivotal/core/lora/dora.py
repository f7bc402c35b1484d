"""DoRA: a LoRA whose changed weight is divided by its norm per input channel and multiplied by a trained magnitude.

``W' = m ∘ (W + BA) / ‖W + BA‖``. With one magnitude per input, this is the layer applied to ``r ∘ x`` plus the LoRA of
``r ∘ x``, where ``r = m / ‖W + BA‖``; so the input is scaled before the layer, and no weight is ever built.

Source: Liu et al. 2024, https://arxiv.org/abs/2402.09353; sections 4.1, and 4.3 for treating the norm as a constant.
    LyCORIS, https://github.com/KohakuBlueleaf/LyCORIS, for the name in files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lib_pivotal.core.lora.adapter import Parameters
from lib_pivotal.core.lora.frozen_weight import frozen_weight
from lib_pivotal.core.lora.locon import Locon
from lib_pivotal.core.lora.lora import FusedLora, Lora

__all__ = ["MAGNITUDES", "Dora"]

MAGNITUDES = "dora_scale"
"""Suffix of their key in a file."""
_MIN_NORM = 1e-12
"""Norms below it, of channels that nothing leaves, count as this."""


class Dora:
    """DoRA of a Linear layer or convolution; implements ``adapter.Adapter``.

    Alpha is the rank, because webuis disagree about what another one means.

    Args:
        weight_shape: ``(out, in)`` or ``(out, in, kh, kw)``.
        rank: rank of A and B.

    Host: extensions-builtin/Lora/network.py, A1111 1.9-1.10.1, and backend/patcher/lora.py, Forge: the norm is that
        of each input channel; older webuis ignore the magnitudes.
    """

    without_decay = frozenset({"magnitude"})

    def __init__(self, weight_shape: tuple[int, ...], rank: int) -> None:
        self.rank, self.alpha = rank, float(rank)
        lora = Locon if len(weight_shape) > 2 else FusedLora
        self._lora: Lora = lora(weight_shape, rank, float(rank))
        self._magnitude_shape = (1, weight_shape[1], *(1 for _ in weight_shape[2:]))
        self.shapes: Mapping[str, tuple[int, ...]] = {**self._lora.shapes, "magnitude": self._magnitude_shape}

    @torch.no_grad()
    def initialize(self, parameters: Parameters, module: Any, generator: torch.Generator) -> None:
        """Initialize the LoRA as usual, and the magnitudes with the norms of the layer's weight."""
        self._lora.initialize(parameters, module, generator)
        parameters["magnitude"].copy_(_squares(frozen_weight(module)).sqrt().view(self._magnitude_shape))

    def scaled_input(self, module: Any, x: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """What the layer gets instead of its input: every channel times its magnitude over its present norm.

        Args:
            module: the layer.
            x: its input, ``(…, in)`` or ``(B, in, h, w)``.
            parameters: as in :meth:`forward`.
        """
        ratio = parameters["magnitude"].flatten() / self._norms(parameters, module)
        # In the precision of the ratio, so that in half precision its rounding does not scale whole channels.
        return (x * (ratio if len(self._magnitude_shape) == 2 else ratio.view(-1, 1, 1))).to(x.dtype)

    def forward(self, module: Any, x: torch.Tensor, output: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """``output`` plus the LoRA of ``x``, ``(…, in)`` or ``(B, in, h, w)``; both belong to the scaled input."""
        return self._lora.forward(module, x, output, parameters)

    @torch.no_grad()
    def _norms(self, parameters: Parameters, module: Any) -> torch.Tensor:
        """Norm of each input channel of ``W + BA``, fp32, shape ``(in,)``."""
        own, mixed, added = _products(frozen_weight(module, parameters["magnitude"].device), parameters)
        return (own + 2 * mixed + added).clamp(min=_MIN_NORM**2).sqrt()

    def delta(self, parameters: Parameters, module: Any) -> torch.Tensor:
        """``m ∘ (W + BA) / ‖W + BA‖ - W``, fp32, in the shape of the layer's weight."""
        weight = frozen_weight(module, parameters["magnitude"].device).float()
        ratio = (parameters["magnitude"].flatten() / self._norms(parameters, module)).view(self._magnitude_shape)
        change: torch.Tensor = (weight + self._lora.delta(parameters, module)) * ratio - weight
        return change

    def delta_norms(self, stacked: Parameters, modules: Sequence[Any]) -> torch.Tensor:
        """See ``adapter.Adapter``: shape ``(n,)``; the changes are not built."""
        norms = []
        for number, module in enumerate(modules):
            parameters = {name: value[number] for name, value in stacked.items()}
            ratio = parameters["magnitude"].flatten() / self._norms(parameters, module)
            own, mixed, added = _products(frozen_weight(module, parameters["magnitude"].device), parameters)
            # Of each input channel the change is (r - 1) w + r δ.
            squares = (ratio - 1).square() * own + 2 * ratio * (ratio - 1) * mixed + ratio.square() * added
            norms.append(squares.sum().clamp(min=0.0).sqrt())
        return torch.stack(norms)

    @torch.no_grad()
    def rescale(self, parameters: Parameters, factor: float) -> None:
        """Multiply B; the magnitudes stay as they are."""
        self._lora.rescale(parameters, factor)

    def tensors(self, parameters: Parameters) -> dict[str, torch.Tensor]:
        """Those of a LoRA, and ``dora_scale`` with the magnitudes, ``(1, in)`` or ``(1, in, 1, 1)``, fp32."""
        return {**self._lora.tensors(parameters), MAGNITUDES: parameters["magnitude"].detach().cpu().clone()}

    @torch.no_grad()
    def load(self, parameters: Parameters, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill LoRA and magnitudes from a file's tensors.

        Raises:
            ValueError: a tensor is missing or has the wrong shape, such as magnitudes per output.
        """
        stored = tensors.get(MAGNITUDES)
        if stored is None or stored.shape != self._magnitude_shape:
            shown = "is missing" if stored is None else f"has the shape {tuple(stored.shape)}"
            raise ValueError(f"{MAGNITUDES} {shown}; {self._magnitude_shape}, one value per input, is needed")
        parameters["magnitude"].copy_(stored)
        self._lora.load({name: parameters[name] for name in self._lora.shapes}, tensors)

    def network_args(self) -> dict[str, Any]:
        """LyCORIS' names of the algorithm and the axis of the norm, and those of the LoRA."""
        return {"algo": "lora", "dora_wd": True, "wd_on_output": False, **self._lora.network_args()}


def _products(weight: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scalar products ``w·w``, ``w·δ`` and ``δ·δ`` of the input channels of ``W`` and ``BA``, fp32, shape ``(in,)``.

    ``BA`` is not built: ``w·δ = (Bᵀw)·a`` and ``δ·δ = a·(BᵀB a)`` for each column ``a`` of ``A``.
    """
    down, up = parameters["down"].flatten(1), parameters["up"].flatten(1)
    with torch.autocast(weight.device.type, enabled=False):
        mixed = torch.mm(up.t().to(weight.dtype), weight.flatten(1)).float() * down
        added = torch.mm(torch.mm(up.t(), up), down) * down
    mixed, added = (value.sum(0).view(weight.shape[1], -1).sum(1) for value in (mixed, added))
    return _squares(weight), mixed, added


def _squares(weight: torch.Tensor) -> torch.Tensor:
    """Squared norm of each input channel, fp32, shape ``(in,)``."""
    inputs = weight.detach().transpose(0, 1).flatten(1)
    norms: torch.Tensor = torch.linalg.vector_norm(inputs, dim=1, dtype=torch.float32)
    return norms.square()
