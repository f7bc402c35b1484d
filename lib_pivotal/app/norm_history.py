"""Norms of the embeddings over a run, thinned out so that a long run does not fill the memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["NormHistory"]

_MAX_COUNT = 128
"""Steps that are kept; when there are more, every second one is dropped."""


class NormHistory:
    """Keeps the norms of evenly spaced steps, and always those of the last one."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, Mapping[str, float]]] = []
        self._last: tuple[int, Mapping[str, float]] | None = None
        self._every = 1
        self._count = 0

    def add(self, step: int, norms: Mapping[str, float]) -> None:
        """Record a step; without embeddings nothing is recorded."""
        if not norms:
            return
        self._last = (step, norms)
        if self._count % self._every == 0:
            self._kept.append(self._last)
        self._count += 1
        if len(self._kept) == _MAX_COUNT:
            self._kept, self._every = self._kept[::2], 2 * self._every

    def as_dict(self) -> dict[str, Any]:
        """``steps``, and ``names``: name → its norm at each of them; None where it is not finite."""
        points = list(self._kept)
        if self._last is not None and points[-1][0] != self._last[0]:
            points.append(self._last)
        names = list(self._last[1]) if self._last is not None else []
        columns = {name: [_finite(norms.get(name)) for _, norms in points] for name in names}
        return {"steps": [step for step, _ in points], "names": columns}


def _finite(value: float | None) -> float | None:
    return round(value, 5) if value is not None and math.isfinite(value) else None
