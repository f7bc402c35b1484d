"""Trainable LoRA weights and their attachment to borrowed layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import BundleError
from lib_pivotal.core.lora.layer import add_delta, down_shape, start_down, up_shape
from lib_pivotal.core.optim.flat import FlatGroup
from lib_pivotal.core.ports import LoraTarget

__all__ = ["LoraWeights", "attach", "choose_targets"]

_BLOCK_ROLES = ("attention", "feed_forward")
_CONV_ROLES = ("conv", "projection")
"""The projections around a transformer block are 1×1 convolutions in SD1."""


def choose_targets(targets: Sequence[LoraTarget], config: TrainConfig) -> list[tuple[LoraTarget, int]]:
    """Layers that get a LoRA under these settings, with their rank.

    The UNet's attention and feed-forward layers get ``rank``, its convolutions ``conv_rank``, the text
    encoders' attention and feed-forward layers ``text_encoder_rank``; 0 leaves a kind out.
    """
    chosen = []
    for target in targets:
        if target.part != "unet":
            rank = config.text_encoder_rank if target.role in _BLOCK_ROLES else 0
        elif target.role in _BLOCK_ROLES:
            rank = config.rank
        else:
            rank = config.conv_rank if target.role in _CONV_ROLES else 0
        if rank:
            chosen.append((target, rank))
    return chosen


@dataclass
class _Layer:
    target: LoraTarget
    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    scale: float


class LoraWeights:
    """A and B of a set of layers, all fp32 views of one flat group.

    Args:
        name: group name, ``"unet"`` or an encoder's.
        chosen: layers and ranks, see :func:`choose_targets`.
        alpha_ratio: alpha divided by rank, the same for every layer.
        seed: of the start values; A is random, B zero.
        device: where the weights live.
    """

    def __init__(
        self, name: str, chosen: Sequence[tuple[LoraTarget, int]], alpha_ratio: float, seed: int, device: torch.device
    ) -> None:
        shapes: list[tuple[int, ...]] = []
        for target, rank in chosen:
            weight: Any = target.module.weight
            shapes += [down_shape(weight, rank), up_shape(weight, rank)]
        self.group = FlatGroup(name, shapes, device)
        self.layers = []
        for index, (target, rank) in enumerate(chosen):
            down, up = self.group.leaves[2 * index : 2 * index + 2]
            self.layers.append(_Layer(target, down, up, alpha_ratio * rank, alpha_ratio))
        generator = torch.Generator().manual_seed(seed)
        # By key: hosts walk through the same layers in different order, and start from the same values.
        for layer in sorted(self.layers, key=lambda layer: layer.target.key):
            start_down(layer.down, generator)
        self.enabled = True

    @classmethod
    def from_state(
        cls, name: str, targets: Sequence[LoraTarget], state: Mapping[str, torch.Tensor], device: torch.device
    ) -> LoraWeights:
        """The weights of one part as a file holds them.

        Args:
            name: the part, ``"unet"`` or an encoder's name.
            targets: all layers of the model; those without a key in ``state`` stay without a LoRA.
            state: kohya tensors.
            device: where the weights live.

        Raises:
            BundleError: a tensor does not fit its layer.
        """
        own = [target for target in targets if target.part == name and f"{target.key}.lora_down.weight" in state]
        chosen = [(target, state[f"{target.key}.lora_down.weight"].shape[0]) for target in own]
        weights = cls(name, chosen, 1.0, 0, device)
        with torch.no_grad():
            for layer in weights.layers:
                key = layer.target.key
                down, up = state[f"{key}.lora_down.weight"], state.get(f"{key}.lora_up.weight")
                if up is None or down.shape != layer.down.shape or up.shape != layer.up.shape:
                    raise BundleError(f"The LoRA of {key} does not fit the model.", hint="It is of another family.")
                layer.down.copy_(down)
                layer.up.copy_(up)
                layer.alpha = float(state.get(f"{key}.alpha", down.shape[0]))
                layer.scale = layer.alpha / down.shape[0]
        return weights

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Kohya tensors on the CPU: ``KEY.lora_down.weight``, ``KEY.lora_up.weight``, ``KEY.alpha``, fp32."""
        result = {}
        for layer in self.layers:
            key = layer.target.key
            result[f"{key}.lora_down.weight"] = layer.down.detach().cpu().clone()
            result[f"{key}.lora_up.weight"] = layer.up.detach().cpu().clone()
            result[f"{key}.alpha"] = torch.tensor(layer.alpha)
        return result


@contextlib.contextmanager
def attach(weights: Sequence[LoraWeights]) -> Iterator[None]:
    """Let LoRAs act on their layers within the context.

    Forward hooks keep modules, parameters and state-dict keys of the borrowed model as they are.
    """
    handles: list[Any] = []
    try:
        for lora in weights:
            handles += [layer.target.module.register_forward_hook(_hook(lora, layer)) for layer in lora.layers]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(lora: LoraWeights, layer: _Layer) -> Any:
    down, up, scale = layer.down, layer.up, layer.scale

    def hook(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
        return add_delta(module, inputs[0], output, down, up, scale) if lora.enabled else None

    return hook
