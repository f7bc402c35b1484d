"""Random numbers of one training item; they depend on seed, step and position in the step, and on nothing else.

Previews, the resume point and the division of a step into batches therefore change no loss.
"""

from __future__ import annotations

import hashlib
import random

import torch

__all__ = ["ItemNoise", "item_noise", "item_seed"]


class ItemNoise:
    """The random values of one item.

    Attributes:
        noise: standard normal, fp32 on the CPU, shape ``(C, h, w)``.
        posterior: standard normal for drawing the latent, same shape.
        timestep: 0 … T-1.
    """

    __slots__ = ("noise", "posterior", "timestep")

    def __init__(self, noise: torch.Tensor, posterior: torch.Tensor, timestep: int) -> None:
        self.noise = noise
        self.posterior = posterior
        self.timestep = timestep


def item_seed(seed: int, step: int, position: int) -> int:
    """63-bit seed of one item: from the run's seed, the step (0 …) and the position in the step (0 …)."""
    digest = hashlib.blake2b(f"{seed}/{step}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def item_noise(seed: int, shape: tuple[int, ...], timestep_count: int) -> tuple[ItemNoise, random.Random]:
    """Random values of one item, and a generator for its caption and flipping.

    Args:
        seed: see :func:`item_seed`.
        shape: ``(C, h, w)`` of its latent.
        timestep_count: T.
    """
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn((2, *shape), generator=generator)
    return ItemNoise(both[0], both[1], rng.randrange(timestep_count)), rng
