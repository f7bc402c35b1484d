"""Arranges the sample images of a run as a grid: a row per step, the newest first, and a column per prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from lib_pivotal.ui.text.training import MESSAGES

__all__ = ["arrange_samples"]

_MAX_COLUMNS = 6
"""Of more prompts, each step takes several rows."""
_GRAY = (128, 128, 128)


def arrange_samples(samples: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[str, str]], int]:
    """Paths of the gallery's images with their captions, and its number of columns.

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
    images: list[tuple[str, str]] = []
    for step in sorted({sample["step"] for sample in samples}, reverse=True):
        for index in range(columns * rows_per_step):
            sample = known.get((step, index))
            if sample is not None:
                images.append((sample["path"], MESSAGES["sample"].format(**sample)))
            else:
                images.append((_gap(Path(samples[0]["path"]).parent), MESSAGES["no_sample"].format(step=step)))
    return images, columns


def _gap(folder: Path) -> str:
    """A gray image among the samples.

    Host: modules/ui_tempdir.py, ``save_pil_to_file``, Forge-Neo: an image that is not a file yet is written into the
    folder for temporary images, which a fresh installation does not have; the whole answer would fail.
    """
    path = folder / "no-image.png"
    if not path.exists():
        Image.new("RGB", (64, 64), _GRAY).save(path)
    return str(path)
