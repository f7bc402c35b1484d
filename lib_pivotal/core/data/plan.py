"""Which pictures a step sees: fixed by the seed and the step's number, whatever happened before."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

__all__ = ["Plan"]


class Plan:
    """The order of pictures, one bucket a step.

    Every bucket has an endless stream: a seeded permutation of its pictures (each as often as it repeats),
    then another, and so on. Each step takes its pictures from the bucket that is furthest behind its share,
    so that in the long run every picture is seen in proportion to its repeats. The sequence does not depend
    on how many steps the run has.

    Args:
        buckets: bucket of each picture.
        repeats: weight of each picture, ≥ 1.
        items_per_step: pictures of a step, over all batches and processes.
        seed: of the permutations.
    """

    def __init__(self, buckets: Sequence[Hashable], repeats: Sequence[int], items_per_step: int, seed: int) -> None:
        self._streams: dict[Hashable, list[int]] = {}
        for index, (bucket, count) in enumerate(zip(buckets, repeats, strict=True)):
            self._streams.setdefault(bucket, []).extend([index] * count)
        self._order = sorted(self._streams, key=repr)
        self._total = sum(len(stream) for stream in self._streams.values())
        self._items_per_step = items_per_step
        self._seed = seed
        self._taken: dict[Hashable, int] = dict.fromkeys(self._order, 0)
        self._starts: list[tuple[Hashable, int]] = []
        self._passes: dict[tuple[Hashable, int], list[int]] = {}

    def step(self, number: int) -> tuple[int, ...]:
        """Picture indices of step ``number`` (0 …), ``items_per_step`` of them, all of one bucket."""
        while len(self._starts) <= number:
            bucket = self._furthest_behind(len(self._starts))
            self._starts.append((bucket, self._taken[bucket]))
            self._taken[bucket] += self._items_per_step
        bucket, start = self._starts[number]
        return tuple(self._item(bucket, start + offset) for offset in range(self._items_per_step))

    def _furthest_behind(self, steps_done: int) -> Hashable:
        due = (steps_done + 1) * self._items_per_step
        return max(self._order, key=lambda b: due * len(self._streams[b]) / self._total - self._taken[b])

    def _item(self, bucket: Hashable, position: int) -> int:
        stream = self._streams[bucket]
        number, place = divmod(position, len(stream))
        key = (bucket, number)
        if key not in self._passes:
            # Two passes are enough: a step never reaches further back than the pass before.
            for old in [other for other in self._passes if other[0] == bucket and abs(other[1] - number) > 1]:
                del self._passes[old]
            order = list(stream)
            random.Random(f"{self._seed}/{bucket!r}/{number}").shuffle(order)  # noqa: S311
            self._passes[key] = order
        return self._passes[key][place]
