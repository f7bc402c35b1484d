"""Where a headless run writes."""

from __future__ import annotations

import time
from pathlib import Path

from lib_pivotal.core.train.run import Folders

__all__ = ["folders_for", "new_run_folder"]


def new_run_folder(out: Path, name: str) -> Path:
    """Make ``out/runs/<name>-<time>``, with a number where that is taken."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        folder = out / "runs" / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def folders_for(out: Path, run: Path) -> Folders:
    """Bundles go straight to ``out``, latents to ``out/cache``."""
    return Folders(run=run, bundles=out, cache=out / "cache")
