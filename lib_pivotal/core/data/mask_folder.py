"""Finds the masks of images in a folder of their own."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePath

from lib_pivotal.core.data.folder import MASK_MARK
from lib_pivotal.core.data.image_file import readable_suffixes
from lib_pivotal.core.folder_walk import files_below

__all__ = ["MaskFolder", "around"]


class MaskFolder:
    """The image files in a folder, by name.

    Args:
        folder: the folder; its subfolders belong to it.
    """

    def __init__(self, folder: Path) -> None:
        self._masks: dict[str, Path] = {}
        self._unused: set[Path] = set()
        suffixes = readable_suffixes()
        for path in files_below(folder):
            relative = path.relative_to(folder)
            if path.suffix.lower() in suffixes and not any(part.startswith(".") for part in relative.parts):
                self._masks.setdefault(_key(relative), path)
                self._unused.add(path)

    def find(self, images: Iterable[PurePath]) -> dict[PurePath, Path]:
        """Find masks of the same name, in the same subfolder or, where that is clear, directly in the mask folder.

        Args:
            images: paths relative to the folder of the images.

        Returns:
            Image → mask, without the images that have none.
        """
        keys = {image: _key(image) for image in images}
        found = {image: self._masks[key] for image, key in keys.items() if key in self._masks}
        rivals: dict[str, set[str]] = {}
        for image, key in keys.items():
            rivals.setdefault(_key(PurePath(image.name)), set()).add(key)
        for image in keys:
            name = _key(PurePath(image.name))
            if image not in found and name in self._masks and len(rivals[name]) == 1:
                found[image] = self._masks[name]
        self._unused.difference_update(found.values())
        return found

    @property
    def unused_count(self) -> int:
        """Number of image files that have been found for no image."""
        return len(self._unused)


def around(folder: Path, inner: Path) -> bool:
    """Whether ``folder`` is ``inner`` or contains it, also through links."""
    real, real_inner = os.path.realpath(folder), os.path.realpath(inner)
    return real == real_inner or Path(real) in Path(real_inner).parents


def _key(path: PurePath) -> str:
    """Path without suffix, equal for names that Windows or macOS cannot tell apart."""
    name = path.with_name(path.stem.removesuffix(MASK_MARK) or path.stem).as_posix()
    return unicodedata.normalize("NFC", name).casefold()
