"""Reads a dataset once per start; the checks pass the result on to the training."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from lib_pivotal.core.config.data_settings import DataSettings
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.bucket_image import KeptImages
from lib_pivotal.core.data.caption_template import read_templates
from lib_pivotal.core.data.dataset_masks import DatasetMasks
from lib_pivotal.core.data.folder import ImageEntry, find_folder
from lib_pivotal.core.data.folder_reading import read_folder
from lib_pivotal.core.data.image_facts import ImageFacts, read_facts
from lib_pivotal.core.data.image_file import UnusableImage
from lib_pivotal.core.data.image_index import ImageIndex
from lib_pivotal.core.data.in_order import in_order
from lib_pivotal.core.data.overlaps import is_same_file, overlap_problems, real_folders
from lib_pivotal.core.data.regularization_folders import unclaimed_folders
from lib_pivotal.core.data.scan import DatasetImage, Flaw, scan_entry
from lib_pivotal.core.data.shown import bases, shown_path
from lib_pivotal.core.data.subsets import field_of, mask_field_of, subsets_of
from lib_pivotal.core.data.validation_images import hold_out
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["DatasetReport", "read_dataset"]

_MAX_DECODING = 64_000_000
"""Maximum number of pixels of the images that are decoded at the same time, at up to four bytes each."""

_INVISIBLE = Flaw(
    "is fully transparent",
    "Remove it, or set Background to hidden to train the colors stored under its transparent pixels.",
)


@dataclass(frozen=True)
class DatasetReport:
    """Contents of the folders of a data set.

    Attributes:
        folders: the folders that were read, in the order of the subsets.
        images: all images, including unusable ones, by subset, then sorted by relative path.
        copies: pairs of images with the same pixels, in order.
        unused: kind → number of files that are not used.
        problems: problems with the folder and its subfolders, not with single files.
        templates: the templates of captions.
        kept: images fitted to their buckets, for encoding; None if they are not kept.
    """

    folders: tuple[Path, ...]
    images: tuple[DatasetImage, ...] = ()
    copies: tuple[tuple[DatasetImage, DatasetImage], ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    templates: tuple[str, ...] = ()
    kept: KeptImages | None = None

    @property
    def usable(self) -> tuple[DatasetImage, ...]:
        """The images that can be used for training."""
        return tuple(image for image in self.images if not image.flaws)

    @property
    def folder(self) -> Path:
        """The first folder, which stands for the data set in messages."""
        return self.folders[0]

    def digest(self) -> str:
        """Hex digest of everything in files that determines the order and content of steps."""
        digest = hashlib.sha256()
        for image in self.usable:
            # Names need not be UTF-8. Except on Windows, this restores the bytes of the file system.
            folder = next(folder for folder in self.folders if folder in image.path.parents)
            name = os.fsencode(image.path.relative_to(folder).as_posix())
            texts = (image.sha256, image.caption or "", f"{image.repeats:g}")
            mask = [image.mask.sha256.encode()] if image.mask is not None else []
            digest.update(b"\0".join([name, *(text.encode() for text in texts), *mask]))
        if self.templates:
            digest.update(b"\0templates\0" + "\0".join(self.templates).encode())
        return digest.hexdigest()


def read_dataset(
    config: TrainConfig,
    *,
    kept: KeptImages | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    decodes: bool = True,
) -> DatasetReport:
    """List the folders of a data set, read every file in them once, and decode every image once.

    Images are decoded because a truncated image is only noticed then.

    Args:
        config: its settings of the data set are used.
        kept: receives the decoded images.
        cache: folder that remembers which images were decoded before; None decodes all.
        progress: called with (done, total) images.
        decodes: whether to decode images that ``cache`` does not know, and masks. Without, the result is quick and
            good for counting images: unusable images are only found if their header is damaged.
    """
    subsets = subsets_of(config, config.subsets)
    owners = [field_of(config, config.subsets, number) for number in range(len(subsets))]
    masks, index = DatasetMasks(config, subsets), ImageIndex(cache)
    reader = _Reader(config, subsets, masks, kept, index, progress, decodes=decodes)
    for subset, owner in zip(subsets, owners, strict=True):
        reader.read(subset, owner)
    reader.unused.update(["mask without an image"] * masks.unused_count)
    index.save()
    copies = tuple(pair for pair in reader.copies if not is_same_file(pair[0].path, pair[1].path))
    overlaps = overlap_problems(reader.folders, owners, reader.paths)
    templates: tuple[str, ...] = ()
    try:
        templates = read_templates(config.caption_template)
    except ConfigError as error:
        reader.problems += error.problems
    return DatasetReport(
        folders=tuple(reader.folders),
        images=hold_out(reader.images, reader.copies, config),
        copies=copies,
        unused=dict(reader.unused),
        problems=(*overlaps, *reader.problems, *unclaimed_folders(subsets)),
        templates=templates,
        kept=kept,
    )


class _Reader:
    """Reads one folder after another.

    Args:
        settings: of the data set.
        subsets: all its folders.
        masks: finds and reads the masks.
        kept: receives the decoded images.
        index: knows images that were decoded before.
        progress: called with (done, total) images.
        decodes: see :func:`read_dataset`.
    """

    def __init__(
        self,
        settings: DataSettings,
        subsets: Sequence[Subset],
        masks: DatasetMasks,
        kept: KeptImages | None,
        index: ImageIndex,
        progress: Callable[[int, int], None],
        *,
        decodes: bool,
    ) -> None:
        self.folders: list[Path] = []
        self.images: list[DatasetImage] = []
        self.paths: list[list[Path]] = []
        """Images of each folder."""
        self.copies: list[tuple[DatasetImage, DatasetImage]] = []
        self.unused: Counter[str] = Counter()
        self.problems: list[Problem] = []
        self._settings = settings
        folders = [find_folder(subset.folder)[0] for subset in subsets]
        self._bases = bases(folders)
        self._apart = frozenset(real_folders(folders) if len(folders) > 1 else ())
        self._masks = masks
        self._kept = kept
        self._index = index
        self._progress = progress
        self._decodes = decodes
        self._seen: dict[str, DatasetImage] = {}

    def read(self, subset: Subset, field: str) -> None:
        """Read a folder.

        Args:
            subset: the folder and its settings.
            field: the setting that holds the folder.
        """
        folder, problem = find_folder(subset.folder)
        base = self._bases[len(self.folders)]
        self.folders.append(folder)
        self.paths.append([])
        if problem:
            self.problems.append(Problem(field, "error", *problem))
            return
        contents = read_folder(
            folder, subset, self._settings, field=field, base=base, apart=self._apart, masks=self._masks.folders
        )
        self.unused.update(contents.unused)
        self.problems += contents.problems
        self.paths[-1] += [entry.path for entry in contents.images]
        if not contents.images and len(self._bases) > 1:
            text = f"{shown_path(folder)} contains no images."
            self.problems.append(Problem(field, "error", text, "Add images, or remove this folder from the data set."))
        self.problems += [_closed(path, reason, folder, field) for path, reason in contents.closed]
        masks, problems = self._masks.find(contents.images, folder, subset, mask_field_of(field))
        self.problems += problems
        if subset.masks != "masklabel":
            self.unused.update(["mask (-masklabel)"] * len({entry.mask for entry in contents.images if entry.mask}))
        found = (self._known(entry, folder, subset, masks.get(entry.path)) for entry in contents.images)
        for read, pixels in in_order(self._read, found, _pixels_to_decode, _MAX_DECODING):
            self.images.append(read)
            self._progress(len(self.images), sum(map(len, self.paths)))
            if pixels and self._seen.setdefault(pixels, read) is not read:
                self.copies.append((self._seen[pixels], read))

    def _known(self, entry: ImageEntry, folder: Path, subset: Subset, mask: Path | None) -> _Found:
        """What is known about an image without decoding it; ``mask`` is the file of its mask."""
        try:
            stat = entry.path.stat()
        except OSError:
            # Reading it will say why.
            return _Found(scan_entry(entry, folder, subset), None, None, mask)
        facts = self._index.find(entry.path, stat)
        size = (facts.width, facts.height) if facts is not None else None
        return _Found(scan_entry(entry, folder, subset, size), stat, facts, mask)

    def _read(self, found: _Found) -> tuple[DatasetImage, str]:
        """Return the image with its facts or flaw, and a digest of its pixels; called from several threads."""
        image, stat, facts, mask_file = found
        if not image.width:
            return image, ""
        if not self._decodes and facts is None:
            # Unknown contents are taken to differ.
            return replace(image, sha256=image.shown), ""
        try:
            if facts is None:
                facts = read_facts(image.path, self._kept)
                if stat is not None:
                    self._index.add(image.path, stat, facts)
            mask = self._masks.read(mask_file, facts, image.subset) if self._decodes else None
        except UnusableImage as error:
            return replace(image, flaws=(*image.flaws, Flaw(error.reason, error.hint))), ""
        if facts.is_invisible and self._settings.background != "hidden":
            return replace(image, flaws=(*image.flaws, _INVISIBLE)), ""
        read = replace(image, width=facts.width, height=facts.height, sha256=facts.sha256, notes=facts.notes)
        return replace(read, transparency=facts.transparency, mask=mask), facts.pixels


class _Found(NamedTuple):
    """An image, the state of its file, what the index knows about it, and the file of its mask."""

    image: DatasetImage
    stat: os.stat_result | None
    facts: ImageFacts | None
    mask: Path | None


def _pixels_to_decode(found: _Found) -> int:
    # The mask is about as large as the image.
    return found.image.width * found.image.height * ((found.facts is None) + (found.mask is not None))


def _closed(path: Path, reason: str, folder: Path, field: str) -> Problem:
    text = f"The folder {shown_path(path, folder)} cannot be read ({reason})."
    hint = "Check its permissions" + ("." if path == folder else ", or move it out of the data folder.")
    return Problem(field, "error", text, hint)
