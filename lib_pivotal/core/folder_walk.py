"""Walks a folder and its subfolders; a linked folder is entered once, and a folder around the walked one never."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["files_below", "walk"]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file in a folder and its subfolders; none if the folder does not exist.

    Yields:
        Paths that begin with ``folder``, sorted by name within each folder; links to files are not resolved.
    """
    for path, _, files in walk(folder):
        yield from (path / entry.name for entry in files)


def walk(
    folder: Path, *, on_skip: Callable[[Path, OSError | None], None] | None = None
) -> Iterator[tuple[Path, list[os.DirEntry[str]], list[os.DirEntry[str]]]]:
    """Yield each folder with its subfolders and its files, sorted by name.

    Every real folder is entered only once, so circular links are harmless. Links and Windows' junctions come last, so
    that a folder that can be reached without one is entered under its own path.

    Args:
        folder: the folder; its links to folders around it are not followed.
        on_skip: called for a folder that is not entered: with the error if it cannot be read, with None if it is around
            ``folder``.

    Yields:
        Path, subfolders, and all other entries. The caller may remove subfolders from the list to leave them out.
    """
    real = os.path.realpath(folder)
    around = {str(parent) for parent in Path(real).parents}
    waiting, links, seen = [(folder, real)], list[tuple[Path, str]](), set[str]()
    while waiting or links:
        path, real = waiting.pop() if waiting else links.pop()
        if real in seen:
            continue
        seen.add(real)
        error, entries = (None, None) if real in around else _listed(path)
        if entries is None:
            if on_skip is not None:
                on_skip(path, error)
            continue
        folders = [entry for entry in entries if _is_folder(entry)]
        yield path, folders, [entry for entry in entries if not _is_folder(entry)]
        for entry in reversed(folders):
            inside = os.path.realpath(entry.path)
            is_link = inside != os.path.join(real, entry.name)  # noqa: PTH118  (realpath returns a string)
            (links if is_link else waiting).append((path / entry.name, inside))


def _listed(path: Path) -> tuple[OSError | None, list[os.DirEntry[str]] | None]:
    """The error, if the folder cannot be read, and its entries."""
    try:
        with os.scandir(path) as entries:
            return None, sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        return error, None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
