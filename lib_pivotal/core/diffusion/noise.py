"""Random numbers of a training item, which depend only on seed, step and position in the step.

Therefore previews, resuming and the division of a step into batches do not change the losses.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import torch

from lib_pivotal.core.diffusion.item_random import item_random

__all__ = ["ItemNoise", "item_noise"]


class ItemNoise(NamedTuple):
    """The random values of an item.

    Attributes:
        noise: standard normal, fp32 on the CPU, shape ``(C, h, w)``.
        posterior: standard normal for drawing the latent, same shape.
        timestep: 0 … T-1.
    """

    noise: torch.Tensor
    posterior: torch.Tensor
    timestep: int


def item_noise(seed: int, shape: tuple[int, ...], timestep_count: int) -> tuple[ItemNoise, random.Random]:
    """Random values of an item, and a generator for its caption and flipping.

    Args:
        seed: see :func:`lib_pivotal.core.diffusion.item_random.item_seed`.
        shape: ``(C, h, w)`` of its latent.
        timestep_count: number of timesteps T.
    """
    timestep, rng = item_random(seed, timestep_count)
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn((2, *shape), generator=generator)
    return ItemNoise(both[0], both[1], timestep), rng
