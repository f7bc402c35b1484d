"""Decides which images a step sees when some of them are regularization images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from lib_pivotal.core.data.plan import Plan

__all__ = ["Mixture"]


class Mixture:
    """The order of training and regularization images, each from a :class:`Plan` of its own.

    After any number of steps, the number of regularization samples differs from its share by less than one.

    Args:
        buckets: bucket of each image.
        weights: how often each image is used, relative to the others, > 0.
        is_regularization: for each image, whether it is a regularization image.
        share: share of the samples that come from them, 0 … 1; 0 if there are none.
        items_per_step: number of images per step, over all batches and processes.
        seed: seed of the random orders.
    """

    def __init__(
        self,
        buckets: Sequence[Hashable],
        weights: Sequence[float],
        is_regularization: Sequence[bool],
        *,
        share: float,
        items_per_step: int,
        seed: int,
    ) -> None:
        self._share = share
        self._items_per_step = items_per_step
        self._parts: list[tuple[Plan, list[int]]] = []
        for kind, count in ((False, self._trained), (True, self._regularizing)):
            chosen = [index for index, value in enumerate(is_regularization) if value is kind]
            if chosen:
                plan = Plan([buckets[index] for index in chosen], [weights[index] for index in chosen], count, seed)
                self._parts.append((plan, chosen))

    def step(self, number: int) -> tuple[int, ...]:
        """Image indices of step ``number`` (0 …): training images of one bucket, then regularization images of one."""
        return tuple(chosen[index] for plan, chosen in self._parts for index in plan.step(number))

    def _trained(self, step: int) -> int:
        return self._items_per_step - self._regularizing(step)

    def _regularizing(self, step: int) -> int:
        per_step = self._items_per_step * self._share
        return int((step + 1) * per_step + 0.5) - int(step * per_step + 0.5)
