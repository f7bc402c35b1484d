"""Random numbers of a training item, which depend only on seed, step and position in the step.

Therefore previews, resuming and the division of a step into batches do not change the losses.
"""

from __future__ import annotations

import hashlib
import random
from typing import NamedTuple

import torch

__all__ = ["ItemNoise", "item_noise", "item_random", "item_seed"]


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


def item_seed(seed: int, step: int, position: int) -> int:
    """63-bit seed of an item, from the run's seed, the step (0 …) and the position in the step (0 …)."""
    digest = hashlib.blake2b(f"{seed}/{step}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def item_random(seed: int, timestep_count: int) -> tuple[int, random.Random]:
    """Timestep of an item, 0 … T-1, and a generator for its caption and flipping.

    Args:
        seed: see :func:`item_seed`.
        timestep_count: number of timesteps T.
    """
    rng = random.Random(seed)
    return rng.randrange(timestep_count), rng


def item_noise(seed: int, shape: tuple[int, ...], timestep_count: int) -> tuple[ItemNoise, random.Random]:
    """Random values of an item, and a generator for its caption and flipping.

    Args:
        seed: see :func:`item_seed`.
        shape: ``(C, h, w)`` of its latent.
        timestep_count: number of timesteps T.
    """
    timestep, rng = item_random(seed, timestep_count)
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn((2, *shape), generator=generator)
    return ItemNoise(both[0], both[1], timestep), rng
