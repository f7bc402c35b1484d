"""Finds images that belong together, such as duplicates and frames of one scene."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence

from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["groups_of"]

_FRAME = re.compile(r"(.+)[_-]\d{3,}")
_MIRRORED = re.compile(r"[_-](flip|flipped|mirror|mirrored)$", re.IGNORECASE)


def groups_of(
    images: Sequence[DatasetImage], copies: Sequence[tuple[DatasetImage, DatasetImage]], *, by_name: bool = True
) -> list[list[int]]:
    """Group images that show nearly the same: their indices, in order.

    Args:
        images: images of the data set.
        copies: pairs of images with the same pixels.
        by_name: whether files of one folder named like frames, ``scene_0001`` and ``scene_0002``, belong together, too.
            A name that more than half of the images of a folder have is just how they were numbered.
    """
    joined = _Joined()
    for first, second in copies:
        joined.join(first.path, second.path)
    series = [_series(image) if by_name else None for image in images]
    in_folder = Counter(image.path.parent for image in images)
    in_series = Counter(series)
    for image, name in zip(images, series, strict=True):
        joined.join(image.path, ("contents", image.sha256))
        if name is not None and 2 * in_series[name] <= in_folder[image.path.parent]:
            joined.join(image.path, name)
    groups: dict[Hashable, list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(joined.root(image.path), []).append(index)
    return list(groups.values())


def _series(image: DatasetImage) -> Hashable:
    stem = _MIRRORED.sub("", image.path.stem)
    frame = _FRAME.fullmatch(stem)
    return image.path.parent, frame[1] if frame else stem


class _Joined:
    """Sets of things that were joined, directly or through others."""

    def __init__(self) -> None:
        self._parents: dict[Hashable, Hashable] = {}

    def root(self, item: Hashable) -> Hashable:
        """What stands for the set of ``item``."""
        path = [item]
        while (parent := self._parents.get(path[-1], path[-1])) != path[-1]:
            path.append(parent)
        self._parents.update(dict.fromkeys(path, path[-1]))
        return path[-1]

    def join(self, first: Hashable, second: Hashable) -> None:
        """Make one set of the sets of both."""
        self._parents[self.root(first)] = self.root(second)
