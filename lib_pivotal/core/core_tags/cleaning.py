"""Writes a copy of a data set whose captions have no core tags; the data set itself is never changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_pivotal.core.atomic_file import free_name
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.core_tags.pruning import Pruner, pruner_for
from lib_pivotal.core.core_tags.tagged_image import TaggedImage, plain_tag, tagged_images
from lib_pivotal.core.data.dataset_report import DatasetReport
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["CaptionCleaner", "Copied", "copy_cleaned"]


@dataclass(frozen=True)
class Copied:
    """What was written: numbers of images, of captions, and of captions that have lost tags."""

    images: int
    captions: int
    changed: int


class CaptionCleaner:
    """Leaves core tags out of captions as they are in files, and everything else as it is.

    Args:
        config: its separators are used.
        pruner: decides which tags are left out.
    """

    def __init__(self, config: TrainConfig, pruner: Pruner) -> None:
        marks = [mark for mark in (config.keep_separator, config.group_separator) if mark]
        self._split = re.compile("(" + "|".join(["[,\n]", *map(re.escape, marks)]) + ")")
        self._lasting = ("\n", config.keep_separator)
        self._pruner = pruner

    def clean(self, image: TaggedImage) -> str:
        """The caption of an image without core tags."""
        removed = {tag for tag in image.tags if self._pruner.removes(tag, image.names, image.people)}
        pieces = ["", *self._split.split(image.caption)]
        text = mark = ""
        for between, part in zip(pieces[::2], pieces[1::2], strict=True):
            # Of the separators around a tag that is left out, a line break or keep separator stays.
            if mark not in self._lasting or not mark:
                mark = between if between in self._lasting or not mark else mark
            if plain_tag(part) not in removed:
                text, mark = (text + mark + part if text else part.lstrip()), ""
        return text.strip()


def copy_cleaned(config: TrainConfig, dataset: DatasetReport, folder: Path) -> Copied:
    """Copy the images of a data set, with captions without core tags, into a new folder.

    Args:
        config: its concepts have core tags.
        dataset: the data set; subfolders of its folders are kept.
        folder: must not exist or be empty.

    Raises:
        ConfigError: there is nothing to leave out, or the folder cannot be used.
        OSError: a file cannot be read or written.
    """
    pruner = pruner_for(config, dataset.usable)
    if pruner is None:
        text = "No concept has core tags, or they are not to be left out."
        raise ConfigError([Problem("concepts", "error", text, "Set core_tags; data tags --apply does so.")])
    _make_empty(folder, dataset.folders)
    cleaner = CaptionCleaner(config, pruner)
    captioned = [image for image in dataset.usable if image.caption]
    cleaned = {
        image.path: cleaner.clean(tagged)
        for image, tagged in zip(captioned, tagged_images(captioned, config), strict=True)
    }
    tops = _tops(dataset.folders)
    for image in dataset.usable:
        home = max((top for top in tops if top in image.path.parents), key=lambda top: len(top.parts))
        target = folder / tops[home] / image.path.relative_to(home)
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(image.path, target, cleaned.get(image.path, ""))
    changed = sum(cleaned[image.path] != image.caption for image in captioned)
    return Copied(len(dataset.usable), len(captioned), changed)


def _make_empty(folder: Path, sources: Sequence[Path]) -> None:
    """Create the folder to write to.

    Raises:
        ConfigError: it contains files, or is in the data set.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        text = "It is not an empty folder."
        raise ConfigError([Problem(str(folder), "error", text, "Choose a folder that is new or empty.")])
    resolved = folder.resolve()
    for source in sources:
        if resolved == source.resolve() or source.resolve() in resolved.parents:
            text = f"It is in {shown_path(source)}, whose images are copied."
            raise ConfigError([Problem(str(folder), "error", text, "Choose a folder outside of the data set.")])
    folder.mkdir(parents=True, exist_ok=True)


def _tops(folders: Sequence[Path]) -> dict[Path, Path]:
    """Folder of the data set → where its contents go: a subfolder of its name if there are several."""
    distinct = list(dict.fromkeys(folders))
    if len(distinct) == 1:
        return {distinct[0]: Path()}
    names: dict[Path, Path] = {}
    taken: set[str] = set()
    for folder in distinct:
        name, number = folder.name, 1
        while name.lower() in taken:
            number += 1
            name = f"{folder.name}-{number}"
        taken.add(name.lower())
        names[folder] = Path(name)
    return names


def _copy(source: Path, target: Path, caption: str) -> None:
    """Copy an image and write its caption; images that differ only in the suffix share it if it is the same."""
    text = target.with_suffix(".txt")
    if text.exists() and text.read_text(encoding="utf-8") != caption:
        text = free_name(text)
        target = target.with_stem(text.stem)
    shutil.copyfile(source, target)
    if caption:
        text.write_text(caption, encoding="utf-8")
