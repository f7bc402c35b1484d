"""Finds folders that may hold regularization images but are not used as such."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from lib_pivotal.core.config.subset import TRAIN, Subset
from lib_pivotal.core.data.folder import find_folder
from lib_pivotal.core.data.image_file import readable_suffixes
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.errors import Problem

__all__ = ["unclaimed_folders"]

_NAME = re.compile(r"(\d+[_-])?(reg|regs|regulari[sz]ation|class)([_ -]?(images?|data))?", re.IGNORECASE)


def unclaimed_folders(subsets: Sequence[Subset]) -> list[Problem]:
    """Ask about folders named like regularization images, next to or inside a folder of training images.

    Args:
        subsets: the folders of the data set.
    """
    folders = [(subset, find_folder(subset.folder)) for subset in subsets]
    known = {os.path.realpath(folder) for _, (folder, problem) in folders if problem is None}
    found: dict[Path, bool] = {}
    for subset, (folder, problem) in folders:
        if problem is None and subset.kind == TRAIN:
            found.update(dict.fromkeys(_named(folder.absolute().parent), False))
            found.update(dict.fromkeys(_named(folder), subset.subfolders))
    return [
        _question(path, is_trained=is_trained)
        for path, is_trained in found.items()
        if os.path.realpath(path) not in known and _has_images(path)
    ]


def _question(path: Path, *, is_trained: bool) -> Problem:
    text = f"Are the images in {shown_path(path)} regularization images? "
    text += "They are trained like all others." if is_trained else "They are not used."
    return Problem("subsets", "warning", text, "If so, add it as a folder of the kind regularization.")


def _named(folder: Path) -> list[Path]:
    return sorted(path for path in _entries(folder) if _NAME.fullmatch(path.name) and path.is_dir())


def _has_images(folder: Path) -> bool:
    """Whether there are images directly in a folder or in one of its subfolders."""
    entries = _entries(folder)
    nested = (entry for path in entries if path.is_dir() for entry in _entries(path))
    return any(path.suffix.lower() in readable_suffixes() for path in (*entries, *nested))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
