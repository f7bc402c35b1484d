"""All files below a folder that a person chose, each link followed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["files_below"]


def files_below(folder: Path, *, on_error: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Every file below a folder, also in folders that are links to another place.

    Each real folder is visited once, whatever links lead to it, so links in a circle end. Where a folder can be
    reached without a link, its files are listed under that path.

    Args:
        folder: where to begin; nothing is listed if it does not exist.
        on_error: told of every folder that cannot be read; None passes over them.

    Yields:
        Paths that begin with ``folder``, sorted by name within each folder; links to files as they are.
    """
    seen: set[str] = set()
    waiting = [str(folder)]
    for start in waiting:
        for root, folders, names in os.walk(start, onerror=on_error):
            # On Windows a junction is followed like a folder, so every folder is looked up.
            real = os.path.realpath(root)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            waiting += [str(path) for path in (Path(root, name) for name in folders) if path.is_symlink()]
            yield from (Path(root, name) for name in sorted(names))
