"""Lists all files in a folder and its subfolders; each link is followed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["files_below"]


def files_below(folder: Path, *, on_error: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Yield every file in a folder and its subfolders, including linked folders.

    Each real folder is visited only once, so circular links are harmless. If a folder can be
    reached without a link, its files are listed under that path.

    Args:
        folder: the folder; nothing is listed if it does not exist.
        on_error: called for every folder that cannot be read; None ignores them.

    Yields:
        Paths that begin with ``folder``, sorted by name within each folder; links to files are not resolved.
    """
    seen: set[str] = set()
    waiting = [str(folder)]
    for start in waiting:
        for root, folders, names in os.walk(start, onerror=on_error):
            # On Windows a junction looks like a folder, so every folder is resolved.
            real = os.path.realpath(root)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            waiting += [str(path) for path in (Path(root, name) for name in folders) if path.is_symlink()]
            yield from (Path(root, name) for name in sorted(names))
