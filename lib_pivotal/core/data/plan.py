"""Decides which images a step sees; this depends only on the seed and the step number."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from lib_pivotal.core.data.even_stream import EvenStream

__all__ = ["Plan"]


class _Stream:
    """Endless passes over the images of one bucket, each in a new random order.

    Args:
        images: image indices.
        repeats: how often each image occurs in a pass, whole numbers ≥ 1.
        seed: seed of the random orders.
    """

    def __init__(self, images: Sequence[int], repeats: Sequence[float], seed: str) -> None:
        self._images = list(images)
        self._repeats = [int(count) for count in repeats]
        self._source = self._endless(seed)
        self._aside: dict[int, deque[int]] = {}
        """Skipped image → when it was skipped, oldest first."""
        self._aside_count = 0
        self._skip_count = 0
        self.weight = sum(self._repeats)
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
        unwanted: set[int] = set()
        for number in range(count):
            # When every image has been taken, another round begins.
            if number % len(self._images) == 0:
                unwanted = set()
            taken.append(self._next_but(unwanted))
            unwanted.add(taken[-1])
        return tuple(taken)

    def _next_but(self, unwanted: set[int]) -> int:
        """The next image that is not ``unwanted``; skipped images come first next time."""
        wanted = [image for image in self._aside if image not in unwanted]
        if wanted:
            return self._oldest(wanted)
        # Limited, because images with many repeats would pile up here; proportions matter more.
        if self._aside_count >= len(self._images):
            return self._oldest(self._aside)
        for image in self._source:
            if image not in unwanted:
                return image
            self._skip(image)
        raise AssertionError("an endless stream has ended")

    def _skip(self, image: int) -> None:
        self._aside.setdefault(image, deque()).append(self._skip_count)
        self._skip_count += 1
        self._aside_count += 1

    def _oldest(self, images: Iterable[int]) -> int:
        """Take back the one of these skipped images that has waited longest."""
        image = min(images, key=lambda image: self._aside[image][0])
        self._aside[image].popleft()
        if not self._aside[image]:
            del self._aside[image]
        self._aside_count -= 1
        return image


class Plan:
    """The order of images, one bucket per step.

    Each step takes its images from the bucket that is furthest behind its share, so that over time
    every image is seen in proportion to its weight. The sequence does not depend on the number of steps
    of the run.

    Args:
        buckets: bucket of each image.
        weights: how often each image is used, relative to the others, > 0.
        items_per_step: number of images per step, over all batches and processes; a function of the step number if it
            varies.
        seed: seed of the random orders.
    """

    def __init__(
        self,
        buckets: Sequence[Hashable],
        weights: Sequence[float],
        items_per_step: int | Callable[[int], int],
        seed: int,
    ) -> None:
        members: dict[Hashable, list[int]] = {}
        for index, bucket in enumerate(buckets):
            members.setdefault(bucket, []).append(index)
        # Whole numbers are repeats, whose order must stay that of earlier releases, because unfinished runs resume.
        kind = _Stream if all(float(weight).is_integer() for weight in weights) else EvenStream
        self._streams = [
            kind(members[bucket], [weights[index] for index in members[bucket]], f"{seed}/{bucket!r}")
            for bucket in sorted(members, key=repr)
        ]
        self._total = sum(stream.weight for stream in self._streams)
        self._count = items_per_step if callable(items_per_step) else lambda _: items_per_step
        self._taken = 0
        self._steps: list[tuple[int, ...]] = []

    def step(self, number: int) -> tuple[int, ...]:
        """Image indices of step ``number`` (0 …), ``items_per_step`` of them, all of one bucket."""
        while len(self._steps) <= number:
            count = self._count(len(self._steps))
            self._taken += count
            behind = [self._taken * stream.weight / self._total - stream.taken for stream in self._streams]
            stream = self._streams[behind.index(max(behind))]
            self._steps.append(stream.take(count))
        return self._steps[number]
