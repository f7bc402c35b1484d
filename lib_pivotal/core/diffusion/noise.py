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
        noise: standard normal apart from an offset, fp32 on the CPU, shape ``(C, h, w)``.
        posterior: standard normal for drawing the latent, same shape.
        timestep: 0 … T-1.
    """

    noise: torch.Tensor
    posterior: torch.Tensor
    timestep: int


def item_noise(
    seed: int,
    shape: tuple[int, ...],
    timestep_count: int,
    *,
    timestep_range: tuple[float, float] = (0.0, 1.0),
    offset: float = 0.0,
    stratum: tuple[int, int] | None = None,
) -> tuple[ItemNoise, random.Random]:
    """Random values of an item, and a generator for its caption and flipping.

    Args:
        seed: see :func:`lib_pivotal.core.diffusion.item_random.item_seed`.
        shape: ``(C, h, w)`` of its latent.
        timestep_count: number of timesteps T.
        timestep_range: part of the timesteps that is drawn from, as fractions of T.
        offset: standard deviation of what is added to all cells of a channel.
        stratum: index and number of equal parts of the range, one of which is drawn from; None draws from all of it.

    Source: Guttenberg 2023, https://www.crosslabs.org/blog/diffusion-with-offset-noise, for the offset.
    """
    timestep, rng = item_random(seed, timestep_count)
    if stratum is not None:
        index, count = stratum
        timestep = (index * timestep_count + timestep) // count
    low, high = (round(fraction * timestep_count) for fraction in timestep_range)
    # Not drawn from the range itself, so that captions and flipping do not depend on it.
    timestep = low + timestep * (high - low) // timestep_count
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn((2, *shape), generator=generator)
    noise = both[0]
    if offset:
        noise = noise + offset * torch.randn((shape[0], 1, 1), generator=generator)
    return ItemNoise(noise, both[1], timestep), rng
