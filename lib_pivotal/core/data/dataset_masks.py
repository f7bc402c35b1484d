"""The masks of a data set: where they are and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.folder import ImageEntry, find_folder
from lib_pivotal.core.data.image_facts import ImageFacts
from lib_pivotal.core.data.image_file import UnusableImage
from lib_pivotal.core.data.mask_folder import MaskFolder, around
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.errors import Problem

if TYPE_CHECKING:
    from lib_pivotal.core.data.mask import Mask, MaskReader

__all__ = ["DatasetMasks"]

_CHANNELS: dict[str, Literal["alpha", "gray", "red"]] = {"alpha": "alpha", "masklabel": "gray", "folder": "red"}
"""Source of masks → the channel of their files that counts."""


class DatasetMasks:
    """Finds and reads the masks of the folders of a data set.

    Args:
        config: its settings of masks are used.
        subsets: its folders, with the data set's own settings filled in.

    Attributes:
        folders: all mask folders that are given, whether they are used or not.
    """

    def __init__(self, config: TrainConfig, subsets: Sequence[Subset]) -> None:
        self._config = config
        self._mask_folders: dict[Path, MaskFolder] = {}
        given = {subset.mask_folder for subset in subsets if subset.mask_folder.strip()}
        self.folders = tuple(find_folder(text)[0] for text in sorted(given))

    def find(
        self, images: Sequence[ImageEntry], folder: Path, subset: Subset, field: str
    ) -> tuple[dict[Path, Path], list[Problem]]:
        """Find the mask files of a folder of images.

        Args:
            images: images in the folder.
            folder: the folder.
            subset: its settings.
            field: the setting that holds the mask folder.

        Returns:
            Image → mask file (for transparency the image itself), and the problems with the mask folder.
        """
        if subset.masks == "alpha":
            return {image.path: image.path for image in images}, []
        if subset.masks == "masklabel":
            return {image.path: image.mask for image in images if image.mask is not None}, []
        if subset.masks != "folder":
            return {}, []
        where, problem = find_folder(subset.mask_folder, "mask")
        if problem:
            return {}, [Problem(field, "error", *problem)]
        if around(where, folder):
            text = f"The mask folder {shown_path(where)} contains the images, too."
            return {}, [Problem(field, "error", text, "Move the masks to a folder of their own.")]
        if where not in self._mask_folders:
            self._mask_folders[where] = MaskFolder(where)
        found = self._mask_folders[where].find(PurePath(image.path.relative_to(folder)) for image in images)
        return {folder / image: mask for image, mask in found.items()}, []

    def read(self, path: Path | None, image: ImageFacts, subset: Subset) -> Mask | None:
        """Read the mask of an image; None if it has none. May be called from several threads.

        Args:
            path: its mask file, as :meth:`find` found it; None if there is none.
            image: what is known about the image.
            subset: settings of its folder.

        Raises:
            UnusableImage: the mask file cannot be used; the reason continues the sentence "The image a.png …".
        """
        if path is None or (subset.masks == "alpha" and not image.transparency):
            return None
        try:
            return self._reader.read(path, (image.width, image.height), _CHANNELS[subset.masks])
        except UnusableImage as error:
            raise UnusableImage(f"has a mask {shown_path(path)} that {error.reason}", error.hint) from error

    @property
    def unused_count(self) -> int:
        """Number of files in the mask folders that are the mask of no image."""
        return sum(folder.unused_count for folder in self._mask_folders.values())

    @cached_property
    def _reader(self) -> MaskReader:
        # It needs NumPy, which the tab does not load.
        from lib_pivotal.core.data.mask import MaskReader  # noqa: PLC0415

        config = self._config
        return MaskReader(config.resolution, scale=config.mask_scale, inverted=config.invert_masks)
