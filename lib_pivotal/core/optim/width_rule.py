"""Learning rates for models that are narrower or wider than those of their family.

The learning rates of the settings are those for models of the usual widths, where the rule changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lib_pivotal.core.families import Family
from lib_pivotal.core.ports import LoraTarget

__all__ = ["embedding_lr_factor", "lora_lr_factor"]

_LORA_EXPONENT = 1.0
_EMBEDDING_EXPONENT = 0.5


def lora_lr_factor(part: str, targets: Iterable[LoraTarget], family: Family) -> float:
    """What to multiply the learning rate of a part's LoRA with: inversely proportional to the part's width.

    Args:
        part: ``"unet"`` or an encoder's name.
        targets: all layers of the model.
        family: the model's.

    Returns:
        1 for a part of the family's usual width, or without attention.

    Source: with Adam, the change of a layer's output by one step of a matrix grows with the number of its inputs, Yang
        et al. 2022, https://arxiv.org/abs/2203.03466
    """
    layers: list[Any] = [target.module for target in targets if target.part == part and target.role == "attention"]
    own = [layer.weight.shape[0] for layer in layers]
    return float((family.width_of(part) / min(own)) ** _LORA_EXPONENT) if own else 1.0


def embedding_lr_factor(encoder: str, length: int, family: Family) -> float:
    """What to multiply the learning rate of the embeddings of an encoder with.

    Token vectors have about the same norm at each length, so their components are the smaller the longer they are.

    Args:
        encoder: its name.
        length: of a token vector.
        family: the model's.

    Returns:
        1 for vectors of the family's usual length.
    """
    return float((family.width_of(encoder) / length) ** _EMBEDDING_EXPONENT)
