"""Seed and random generator of a training item; needs no torch."""

from __future__ import annotations

import hashlib
import random

__all__ = ["item_random", "item_seed"]


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
