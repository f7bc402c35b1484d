"""The order of the images of one bucket when their weights are not whole numbers."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence

__all__ = ["EvenStream"]

_ROUNDING = 1e-9
"""Shares this much above a whole number come from rounding."""


class EvenStream:
    """Images in random order, each at any time used as often as its weight says, to within about one use.

    Time is divided into spans of 1 / weight for each image, and each span has one use at a random moment. With equal
    weights, this gives passes over all images, each in a new random order.

    Args:
        images: image indices.
        weights: how often each image is used, relative to the others, > 0.
        seed: seed of the random moments.

    Attributes:
        weight: sum of the weights.
        taken: number of images taken so far.
    """

    def __init__(self, images: Sequence[int], weights: Sequence[float], seed: str) -> None:
        self._weights = dict(zip(images, weights, strict=True))
        self._uses = dict.fromkeys(images, 0)
        self._random = random.Random(seed)
        self._queue: list[tuple[float, int]] = []
        """(moment of the next use, image) as a heap."""
        for image in images:
            self._enqueue(image)
        self.weight = math.fsum(weights)
        self.taken = 0

    def take(self, count: int) -> tuple[int, ...]:
        """The next images, without duplicates unless an image's share is larger than one of ``count``."""
        self.taken += count
        taken: list[int] = []
        uses: Counter[int] = Counter()
        postponed: list[tuple[float, int]] = []
        while len(taken) < count:
            moment, image = heapq.heappop(self._queue)
            # These limits add up to at least ``count``, so there is always an image that may be taken.
            if uses[image] >= math.ceil(count * self._weights[image] / self.weight - _ROUNDING):
                postponed.append((moment, image))
                continue
            taken.append(image)
            uses[image] += 1
            self._uses[image] += 1
            self._enqueue(image)
        for entry in postponed:
            heapq.heappush(self._queue, entry)
        return tuple(taken)

    def _enqueue(self, image: int) -> None:
        moment = (self._uses[image] + self._random.random()) / self._weights[image]
        heapq.heappush(self._queue, (moment, image))
