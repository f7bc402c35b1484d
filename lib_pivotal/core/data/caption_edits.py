"""Plans edits of caption files; nothing is written here, see :mod:`lib_pivotal.core.data.caption_undo`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.caption_changes import ADD_END, CaptionChange, CaptionChanger
from lib_pivotal.core.data.caption_encoding import Decoded, decoded
from lib_pivotal.core.data.caption_file import read_caption_file
from lib_pivotal.core.data.caption_match import alike
from lib_pivotal.core.data.caption_text import prompt_end
from lib_pivotal.core.data.flaw import UnusableCaption
from lib_pivotal.core.data.image_captions import UNREADABLE, would_count
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["EditPlan", "FileEdit", "caption_in_file", "has_own_file", "plan_descriptions", "plan_edits"]

_EDITABLE = (".txt", ".caption")
_UTF8 = "utf-8"

_CANNOT_READ = "The caption file cannot be read, or its encoding is unknown."
_NOT_USED = "A new caption file would not be used; change the setting Captions from to txt first."
_IS_THERE = "A file with the name of the new caption file already exists."


@dataclass(frozen=True)
class FileEdit:
    """A caption file and its new contents.

    Attributes:
        path: the file.
        images: the images whose caption it is, for messages.
        before: its contents; None if it does not exist.
        after: its new contents.
        old: its caption.
        new: its new caption.
        encoding: its encoding if that is not UTF-8, which it becomes; otherwise empty.
    """

    path: Path
    images: tuple[str, ...]
    before: bytes | None
    after: bytes
    old: str
    new: str
    encoding: str = ""


@dataclass(frozen=True)
class EditPlan:
    """Edits that can be applied.

    Attributes:
        title: what is done, for the list of edits that can be undone.
        files: the files that change.
        unchanged: number of images whose captions stay as they are.
        skipped: reason → images that are left out.
        elsewhere: images that are left out because their captions come from metadata, folders, names or settings.
    """

    title: str
    files: tuple[FileEdit, ...]
    unchanged: int
    skipped: Mapping[str, tuple[str, ...]]
    elsewhere: tuple[str, ...]


def has_own_file(image: DatasetImage) -> bool:
    """Whether the caption of an image comes from a text file of its own, which can be edited."""
    return image.caption_file is not None and image.source in _EDITABLE


def caption_in_file(image: DatasetImage, legacy: str = "") -> tuple[str, str]:
    """The caption of an image as it is in its file, or as it is used if it has no file of its own.

    The second value is the encoding of the file if that is not UTF-8, otherwise empty.

    Args:
        image: the image.
        legacy: encoding of files that are not Unicode, see :func:`lib_pivotal.core.data.caption_encoding.decode`.

    Raises:
        UnusableCaption: the file cannot be read.
    """
    if not has_own_file(image) or image.caption_file is None:
        return image.caption or "", ""
    found = _read(image.caption_file, legacy)
    return _caption(found.text), "" if found.encoding == _UTF8 else found.encoding


def plan_edits(
    chosen: Sequence[DatasetImage],
    images: Sequence[DatasetImage],
    edit: Callable[[str], str],
    config: TrainConfig,
    *,
    title: str,
    writes_files: bool = False,
) -> EditPlan:
    """Read the caption files of images and edit their texts, without writing anything.

    Args:
        chosen: images whose captions are edited.
        images: all images of the data set, which may share caption files.
        edit: the text of a file → its new text.
        config: its settings of captions are used.
        title: what is done.
        writes_files: whether captions from elsewhere are written to files next to their images.
    """
    planner = _Planner(images, edit, config, writes_files)
    for image in chosen:
        planner.add(image)
    return EditPlan(
        title,
        tuple(planner.files.values()),
        planner.unchanged,
        {reason: tuple(names) for reason, names in planner.skipped.items()},
        tuple(planner.elsewhere),
    )


def plan_descriptions(
    texts: Mapping[str, str], images: Sequence[DatasetImage], config: TrainConfig, *, title: str
) -> EditPlan:
    """Give images the tags that a program has found in them, without replacing anything.

    Images without a caption get a file; captions in files get the tags that they lack at the end.

    Args:
        texts: name of the image → comma-separated tags or a sentence.
        images: all images of the data set.
        config: its settings of captions are used.
        title: what is done.
    """
    files: dict[Path, FileEdit] = {}
    skipped: dict[str, tuple[str, ...]] = {}
    unchanged = 0
    for image in images:
        text = texts.get(image.shown, "").strip()
        if not text:
            continue
        changer = CaptionChanger(config, CaptionChange(ADD_END, text))
        plan = plan_edits([image], images, changer.changed, config, title=title)
        # Of images that share a file, the first one describes it.
        files = {**{file.path: file for file in plan.files}, **files}
        skipped = {**skipped, **{reason: skipped.get(reason, ()) + names for reason, names in plan.skipped.items()}}
        unchanged += plan.unchanged
    return EditPlan(title, tuple(files.values()), unchanged, skipped, ())


class _Planner:
    """Adds up the edits of images, file by file."""

    def __init__(
        self, images: Sequence[DatasetImage], edit: Callable[[str], str], config: TrainConfig, writes_files: bool
    ) -> None:
        self.files: dict[Path, FileEdit] = {}
        self.unchanged = 0
        self.skipped: dict[str, list[str]] = {}
        self.elsewhere: list[str] = []
        self._edit = edit
        self._legacy = config.caption_encoding
        self._writes_files = writes_files
        self._owners: dict[Path, list[str]] = {}
        for image in images:
            if image.caption_file is not None:
                self._owners.setdefault(image.caption_file, []).append(image.shown)
        self._stems = Counter(_stem(image.path) for image in images)

    def add(self, image: DatasetImage) -> None:
        if image.source == UNREADABLE:
            self._skip(image, _CANNOT_READ)
        elif has_own_file(image) and image.caption_file is not None:
            if image.caption_file not in self.files:
                self._edit_file(image, image.caption_file)
        elif image.source and not self._writes_files:
            self.elsewhere.append(image.shown)
        else:
            self._new_file(image)

    def _edit_file(self, image: DatasetImage, path: Path) -> None:
        try:
            data = read_caption_file(path, path.name)
            found = decoded(data, self._legacy)
        except UnusableCaption:
            found = None
        if found is None:
            self._skip(image, _CANNOT_READ)
            return
        new = self._edit(found.text)
        if new == found.text:
            self.unchanged += 1
            return
        is_utf8 = found.encoding == _UTF8
        after = (found.mark if is_utf8 else b"") + new.encode(_UTF8)
        encoding = "" if is_utf8 else found.encoding
        owners = tuple(self._owners[path])
        self.files[path] = FileEdit(path, owners, data, after, _caption(found.text), _caption(new), encoding)

    def _new_file(self, image: DatasetImage) -> None:
        old = image.caption or ""
        new = self._edit(old)
        if not new.strip() or (new == old and not image.source):
            self.unchanged += 1
            return
        suffix = ".caption" if image.subset.captions == "caption" else ".txt"
        path = image.path.with_suffix(suffix)
        if self._stems[_stem(image.path)] > 1:
            # Images of the same stem would share the file.
            path = image.path.with_name(image.path.name + suffix)
        if not would_count(image.subset.captions, suffix, image.source):
            self._skip(image, _NOT_USED)
        elif path.exists() or path.is_symlink() or path in self.files:
            self._skip(image, _IS_THERE)
        else:
            self.files[path] = FileEdit(path, (image.shown,), None, new.encode(_UTF8), old, new)

    def _skip(self, image: DatasetImage, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(image.shown)


def _read(path: Path, legacy: str) -> Decoded:
    found = decoded(read_caption_file(path, path.name), legacy)
    if found is None:
        raise UnusableCaption("has a caption file in an unknown encoding", "Save it as UTF-8.")
    return found


def _caption(text: str) -> str:
    return text[: prompt_end(text)].strip()


def _stem(path: Path) -> tuple[Path, str]:
    return path.parent, alike(path.stem)
