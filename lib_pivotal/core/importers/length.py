"""Translates epochs and warm-up of other programs to steps, by counting the images of the folders."""

from __future__ import annotations

import math
from typing import Any

from lib_pivotal.core.config.subset import REGULARIZATION, TRAIN
from lib_pivotal.core.data.folder import find_folder, list_folder
from lib_pivotal.core.importers.found import Found

__all__ = ["image_count", "steps_per_epoch"]


def image_count(subset: dict[str, Any]) -> int | None:
    """Number of images in a subset's folder; None if the folder does not exist here."""
    folder, problem = find_folder(subset["folder"])
    return None if problem else len(list_folder(folder, subfolders=subset.get("subfolders", True)).images)


def steps_per_epoch(found: Found) -> int | None:
    """Number of steps in which every image is seen as often as its repeats say; None if a folder does not exist here.

    With regularization images, other programs show one for each training image, so an epoch has twice the steps.

    Args:
        found: its subsets, batch size and gradient accumulation are used.
    """
    total = 0.0
    for subset in found.subsets:
        if subset.get("kind", TRAIN) != TRAIN:
            continue
        count = image_count(subset)
        if count is None:
            return None
        total += count * subset.get("repeats", 1.0)
    if any(subset.get("kind") == REGULARIZATION for subset in found.subsets):
        total *= 2
    images = found.settings.get("batch_size", 1) * found.settings.get("accumulation", 1)
    return math.ceil(total / images) if total and images > 0 else None
