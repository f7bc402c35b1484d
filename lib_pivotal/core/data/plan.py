"""Decides which images a step sees; this depends only on the seed and the step number."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence

__all__ = ["Plan"]


class _Stream:
    """Endless passes over the images of one bucket, each in a new random order.

    Args:
        images: image indices.
        repeats: how often each image occurs in a pass.
        seed: seed of the random orders.
    """

    def __init__(self, images: Sequence[int], repeats: Sequence[int], seed: str) -> None:
        self._images = list(images)
        self._repeats = list(repeats)
        self._source = self._endless(seed)
        self._aside: list[int] = []
        self.weight = sum(repeats)
        self.taken = 0

    def _endless(self, seed: str) -> Iterator[int]:
        number = 0
        while True:
            order = [p for p, count in zip(self._images, self._repeats, strict=True) for _ in range(count)]
            random.Random(f"{seed}/{number}").shuffle(order)
            yield from order
            number += 1

    def take(self, count: int) -> tuple[int, ...]:
        """The next images, without duplicates if the bucket's size and the repeats allow it."""
        self.taken += count
        taken: list[int] = []
        while len(taken) < count:
            # When it contains every image, another round begins.
            full = len(taken) // len(self._images) * len(self._images)
            taken.append(self._next_but(set(taken[full:])))
        return tuple(taken)

    def _next_but(self, unwanted: set[int]) -> int:
        """The next image that is not ``unwanted``; skipped images come first next time."""
        for place, image in enumerate(self._aside):
            if image not in unwanted:
                return self._aside.pop(place)
        # Limited, because images with many repeats would pile up here; proportions matter more.
        if len(self._aside) >= len(self._images):
            return self._aside.pop(0)
        for image in self._source:
            if image not in unwanted:
                return image
            self._aside.append(image)
        raise AssertionError("an endless stream has ended")


class Plan:
    """The order of images, one bucket per step.

    Each step takes its images from the bucket that is furthest behind its share, so that over time
    every image is seen in proportion to its repeats. The sequence does not depend on the number of steps
    of the run.

    Args:
        buckets: bucket of each image.
        repeats: repeats of each image, ≥ 1.
        items_per_step: number of images per step, over all batches and processes.
        seed: seed of the random orders.
    """

    def __init__(self, buckets: Sequence[Hashable], repeats: Sequence[int], items_per_step: int, seed: int) -> None:
        members: dict[Hashable, list[int]] = {}
        for index, bucket in enumerate(buckets):
            members.setdefault(bucket, []).append(index)
        self._streams = [
            _Stream(members[bucket], [repeats[index] for index in members[bucket]], f"{seed}/{bucket!r}")
            for bucket in sorted(members, key=repr)
        ]
        self._total = sum(stream.weight for stream in self._streams)
        self._items_per_step = items_per_step
        self._steps: list[tuple[int, ...]] = []

    def step(self, number: int) -> tuple[int, ...]:
        """Image indices of step ``number`` (0 …), ``items_per_step`` of them, all of one bucket."""
        while len(self._steps) <= number:
            due = (len(self._steps) + 1) * self._items_per_step
            behind = [due * stream.weight / self._total - stream.taken for stream in self._streams]
            stream = self._streams[behind.index(max(behind))]
            self._steps.append(stream.take(self._items_per_step))
        return self._steps[number]
