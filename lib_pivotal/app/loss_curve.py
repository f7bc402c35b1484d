"""The losses of a run with their moving average, thinned out for a chart."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["LossCurve"]

_SMOOTHING = 0.95
"""Weight of the previous mean in the smoothed loss."""
_MAX_POINTS = 500


class LossCurve:
    """Collects losses in the order of their steps.

    Args:
        losses: steps and losses to begin with.
    """

    def __init__(self, losses: Iterable[tuple[int, float]] = ()) -> None:
        self._points: list[tuple[int, float, float]] = []
        self._mean = 0.0
        self._weight = 0.0
        for step, loss in losses:
            self.add(step, loss)

    def add(self, step: int, loss: float) -> None:
        """Record a loss; one that is not finite is left out."""
        if math.isfinite(loss):
            self._mean = _SMOOTHING * self._mean + (1 - _SMOOTHING) * loss
            self._weight = _SMOOTHING * self._weight + (1 - _SMOOTHING)
            self._points.append((step, loss, self._mean / self._weight))

    @property
    def smoothed(self) -> float | None:
        """The moving average after the last step; None before the first."""
        return self._points[-1][2] if self._points else None

    def points(self) -> list[list[float]]:
        """At most 500 points: for each range of steps its last step, mean loss and last smoothed loss."""
        points = list(self._points)
        stride = -(-len(points) // _MAX_POINTS) or 1
        ranges = [points[start : start + stride] for start in range(0, len(points), stride)]
        return [[part[-1][0], sum(loss for _, loss, _ in part) / len(part), part[-1][2]] for part in ranges]
