"""Arranges the sample images of a run as a grid: a row per step, the newest first, and a column per prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from lib_pivotal.ui.text.training import MESSAGES

__all__ = ["arrange_samples"]

_MAX_COLUMNS = 6
"""Of more prompts, each step takes several rows."""
_GRAY = (128, 128, 128)


def arrange_samples(samples: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[Any, str]], int]:
    """The gallery's images with their captions, and its number of columns.

    Args:
        samples: ``step``, ``index``, ``prompt`` and ``path`` of each; one that is missing in a step leaves a gap, so
            that the columns stay aligned.
    """
    if not samples:
        return [], 1
    count = 1 + max(sample["index"] for sample in samples)
    rows_per_step = math.ceil(count / _MAX_COLUMNS)
    columns = math.ceil(count / rows_per_step)
    known = {(sample["step"], sample["index"]): sample for sample in samples}
    images: list[tuple[Any, str]] = []
    for step in sorted({sample["step"] for sample in samples}, reverse=True):
        for index in range(columns * rows_per_step):
            sample = known.get((step, index))
            if sample is not None:
                images.append((sample["path"], MESSAGES["sample"].format(**sample)))
            else:
                images.append((Image.new("RGB", (64, 64), _GRAY), MESSAGES["no_sample"].format(step=step)))
    return images, columns
