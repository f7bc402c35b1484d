"""The folder tree of anime_screenshot_pipeline: images sorted by kind, number of characters and characters.

Source: https://github.com/cyber-meow/anime_screenshot_pipeline, docs/Dataset_organization.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib_pivotal.core.importers.found import Found
from lib_pivotal.core.importers.name_lists import (
    add_core_tags,
    add_initializations,
    add_names,
    concept_of,
    is_core_tags,
    is_initializations,
)
from lib_pivotal.core.importers.source_file import parse

__all__ = ["find_training_folder", "read_tree"]

_COUNT = re.compile(r"\d+\+?_(?:characters?|people|person)")
_OTHERS = "character_others"
_TRAINING = "training"
_INITIALIZATIONS = "emb_init.json"
_CORE_TAGS = ("core_tag.json", "core_tags.json")
_NAMES = "trigger_words.csv"
_HERE = (_TRAINING, _INITIALIZATIONS, *_CORE_TAGS, _NAMES)


def find_training_folder(folder: Path) -> Path | None:
    """The folder with the images, if ``folder`` is such a tree: itself or its subfolder ``training``."""
    for candidate in (folder / _TRAINING, folder):
        if any(_counts(kind) for kind in _folders(candidate)):
            return candidate
    return None


def read_tree(folder: Path, found: Found) -> None:
    """Read a tree: its images, its embeddings and their core tags.

    Args:
        folder: with the subfolder ``training`` or that subfolder itself.
        found: receives the result.

    Raises:
        ConfigError: one of its files cannot be read.
    """
    found.kind = "folder of anime_screenshot_pipeline"
    training = find_training_folder(folder) or folder
    found.put("data_folder", str(training))
    # The leading numbers count characters, and multiply.txt says how often images are shown.
    found.put("folder_repeats", "no")
    found.put("balance", 0.0)
    place = training.parent if training.name == _TRAINING else training
    files = {path.name: path for path in [*_files(training), *_files(place)]}
    if _INITIALIZATIONS in files:
        _read_list(files[_INITIALIZATIONS], found, (is_initializations,), add_initializations)
    elif _NAMES in files:
        add_names(files[_NAMES], found)
    if not found.concepts:
        _add_folder_names(training, found)
    for name in _CORE_TAGS:
        if name in files:
            _read_list(files[name], found, (is_core_tags, is_initializations), add_core_tags)
    _leave_others(place, training, found)


def _read_list(
    path: Path,
    found: Found,
    fits: tuple[Callable[[Any], bool], ...],
    add: Callable[[Mapping[str, Any], Found], None],
) -> None:
    """Read a file of names, if it has one of the known forms."""
    values = parse(path)
    if any(is_form(values) for is_form in fits):
        add(values, found)
        return
    found.leave(path.name)
    found.warn(path.name, "It must map names to lists of words.", "Create it again with the pipeline.")


def _leave_others(place: Path, training: Path, found: Found) -> None:
    """Report the files and folders around the images."""
    for path in [*_files(place), *_folders(place)]:
        if path.name not in _HERE and not _counts(path):
            found.leave(path.name)
    for path in _files(training) if training != place else []:
        if path.name not in _HERE:
            found.leave(path.name)


def _add_folder_names(training: Path, found: Found) -> None:
    """Take the names from the folders: of the image types, which are styles, and of the characters."""
    for kind in _folders(training):
        for count in _counts(kind):
            for group in _folders(count):
                for name in group.name.split("+") if group.name != _OTHERS else []:
                    concept_of(found, name.strip())
        if _counts(kind):
            concept_of(found, kind.name)
    text = "There is no emb_init.json, so the names are those of the folders."
    found.warn("concepts", text, "Remove the concepts that you do not want to train.")


def _counts(kind: Path) -> list[Path]:
    """The folders of a kind of images that are named after a number of characters."""
    return [path for path in _folders(kind) if _COUNT.fullmatch(path.name)]


def _folders(folder: Path) -> list[Path]:
    return _entries(folder, is_folder=True)


def _files(folder: Path) -> list[Path]:
    return _entries(folder, is_folder=False)


def _entries(folder: Path, *, is_folder: bool) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in entries if not path.name.startswith(".") and path.is_dir() == is_folder]
