"""Decides which folder of a data set owns an image when one of them is inside another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.folder import find_folder

__all__ = ["NestedFolders"]


class NestedFolders:
    """The folders of a data set. Images of one inside another belong to the inner one only.

    Args:
        subsets: the folders; those that do not exist are left out.
    """

    def __init__(self, subsets: Sequence[Subset]) -> None:
        self._all: dict[Path, bool] = {}
        """Folder with links resolved → whether its subfolders belong to it."""
        for subset in subsets:
            folder, problem = find_folder(subset.folder)
            if problem is None:
                real = Path(os.path.realpath(folder))
                self._all[real] = self._all.get(real, False) or subset.subfolders

    def owned(self, top: Path, folders: Iterable[Path]) -> set[Path]:
        """Those of ``folders``, which are below ``top``, that no folder inside ``top`` owns."""
        real_top = Path(os.path.realpath(top))
        inner = {folder: subfolders for folder, subfolders in self._all.items() if real_top in folder.parents}
        if not inner:
            return set(folders)
        return {folder for folder in folders if not _is_owned(Path(os.path.realpath(folder)), inner)}


def _is_owned(path: Path, inner: dict[Path, bool]) -> bool:
    return path in inner or any(inner.get(parent, False) for parent in path.parents)
