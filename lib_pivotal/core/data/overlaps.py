"""Finds folders of a data set that contain each other, and images that are reached twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.errors import Problem

__all__ = ["is_same_file", "overlap_problems", "real_folders"]


def real_folders(folders: Sequence[Path]) -> list[str]:
    """The real paths of folders, without links."""
    return [os.path.realpath(folder) for folder in folders]


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def overlap_problems(folders: Sequence[Path], fields: Sequence[str], images: Sequence[Sequence[Path]]) -> list[Problem]:
    """Find overlaps of the folders of a data set.

    Args:
        folders: the folders.
        fields: the setting that holds each of them.
        images: the images of each of them.
    """
    if len(folders) < 2:
        return []
    real = real_folders(folders)
    first: dict[str, int] = {}
    for index, path in enumerate(real):
        first.setdefault(path, index)
    problems, explained = [], set[tuple[int, int]]()
    for index, (path, field) in enumerate(zip(real, fields, strict=True)):
        if first[path] != index:
            explained.add((first[path], index))
            same = fields[first[path]]
            text = f"{shown_path(folders[index])} is the same folder as {same}, so its images count in both."
            problems.append(Problem(field, "warning", text, "If that is not intended, remove one of them."))
            continue
        around = next((first[str(parent)] for parent in Path(path).parents if str(parent) in first), None)
        if around is not None:
            text = f"{shown_path(folders[index])} lies inside {fields[around]}; its images only count as {field}."
            hint = "If they should count as part of the outer folder, remove the inner one."
            problems.append(Problem(field, "warning", text, hint))
    return problems + _reached_twice(images, fields, explained)


def _reached_twice(
    images: Sequence[Sequence[Path]], fields: Sequence[str], explained: set[tuple[int, int]]
) -> list[Problem]:
    owners: dict[str, int] = {}
    real: dict[Path, str] = {}
    counts: Counter[tuple[int, int]] = Counter()
    examples: dict[tuple[int, int], Path] = {}
    for index, paths in enumerate(images):
        for path in paths:
            if path.parent not in real:
                real[path.parent] = os.path.realpath(path.parent)
            owner = owners.setdefault(os.path.join(real[path.parent], path.name), index)  # noqa: PTH118  (as realpath)
            if owner != index and (owner, index) not in explained:
                counts[owner, index] += 1
                examples.setdefault((owner, index), path)
    return [
        Problem(
            fields[index],
            "warning",
            f"{count} image{'s' if count != 1 else ''} can also be reached through {fields[owner]}, such as "
            f"{shown_path(examples[owner, index])}.",
            "They count in both; if that is not intended, remove a link or one of the folders.",
        )
        for (owner, index), count in counts.items()
    ]
