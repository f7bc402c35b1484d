"""Keeps a folder of our own from growing without end."""

from __future__ import annotations

import logging
import time
from pathlib import Path

__all__ = ["DAY_S", "remove_old"]

logger = logging.getLogger("pivotal.old_files")

DAY_S = 86_400


def remove_old(folder: Path, pattern: str, *, keep: int, days: float) -> None:
    """Remove files that are neither among the newest nor young; a failure is only logged.

    Args:
        folder: where they are; need not exist.
        pattern: of their names.
        keep: how many of the newest stay, whatever their age.
        days: younger ones stay, whatever their number.
    """
    try:
        # Stable for equal times: the names of undo files begin with a date.
        dated = sorted(((path.stat().st_mtime, path) for path in folder.glob(pattern)), reverse=True)
        for changed, path in dated[keep:]:
            if time.time() - changed > days * DAY_S:
                path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("old files in %s cannot be removed: %s", folder, error)
