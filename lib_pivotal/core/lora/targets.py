"""Which layers get an adapter, with which rank."""

from __future__ import annotations

from collections.abc import Sequence

from lib_pivotal.core.ports import LoraTarget

__all__ = ["choose_targets"]

_BLOCK_ROLES = ("attention", "feed_forward")
_CONV_ROLES = ("conv", "projection")
"""The projections around a transformer block are 1×1 convolutions in SD1."""


def choose_targets(
    targets: Sequence[LoraTarget], *, rank: int, conv_rank: int, text_encoder_rank: int
) -> list[tuple[LoraTarget, int]]:
    """Layers that get an adapter, each with its rank; rank 0 leaves a kind of layer out.

    Args:
        targets: all layers of the model.
        rank: of the UNet's attention and feed-forward layers.
        conv_rank: of the UNet's convolutions.
        text_encoder_rank: of the text encoders' attention and feed-forward layers.
    """
    chosen = []
    for target in targets:
        if target.part != "unet":
            own = text_encoder_rank if target.role in _BLOCK_ROLES else 0
        elif target.role in _BLOCK_ROLES:
            own = rank
        else:
            own = conv_rank if target.role in _CONV_ROLES else 0
        if own:
            chosen.append((target, own))
    return chosen
