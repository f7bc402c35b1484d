"""Chooses the caption of each image from all sources that there are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from lib_pivotal.core.config.data_settings import DataSettings
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.caption_encoding import decode
from lib_pivotal.core.data.caption_file import read_caption_file
from lib_pivotal.core.data.caption_json import caption_in, has_objects, parse_json
from lib_pivotal.core.data.caption_match import meta_name
from lib_pivotal.core.data.caption_text import clean_caption, is_damaged
from lib_pivotal.core.data.flaw import Flaw, UnusableCaption
from lib_pivotal.core.data.folder import ImageEntry
from lib_pivotal.core.data.metadata_file import Metadata, MetadataFile
from lib_pivotal.core.data.repeats import FolderRepeats

__all__ = ["UNREADABLE", "CaptionNotes", "ImageCaptions", "would_count"]

_KINDS = {
    "auto": ("metadata", ".txt", ".caption", ".json", "Hugging Face metadata", "folder"),
    "txt": (".txt",),
    "caption": (".caption",),
    "json": ("metadata", ".json", "Hugging Face metadata"),
    "folder": ("any folder",),
    "filename": ("file name",),
    "template": (),
}
"""Choice of the source → kinds of sources, the first that has a caption counts."""

_LEADING_NUMBER = re.compile(r"^[-\d]+\s*")
_TRAILING_NUMBER = re.compile(r"(?:[_\s-]+\d+|\s*\(\d+\))$")
_NUMBERED_FOLDER = re.compile(r"\d+_")


UNREADABLE = "unreadable file"
"""Source of the caption of an image whose caption file cannot be used."""


class _Caption(NamedTuple):
    """A caption, the kind of its source, and its file if that is the image's own."""

    text: str
    kind: str
    file: Path | None = None


@dataclass
class CaptionNotes:
    """What is worth saying about the captions of a data folder.

    Attributes:
        several: kinds of sources of an image, the used one first → number of images.
        undecoded: paths for messages of caption files in an unknown encoding.
        sample: contents of the first of them.
        wide_commas: images in whose captions commas were replaced.
        damaged: images whose captions contain control characters or U+FFFD.
        objects: images with values that would have to be unpickled.
        folder_texts: caption from the name of a folder → number of images.
        not_chosen: number of captions of sources that the settings leave out.
    """

    several: Counter[tuple[str, ...]] = field(default_factory=Counter)
    undecoded: list[str] = field(default_factory=list)
    sample: bytes = b""
    wide_commas: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    folder_texts: Counter[str] = field(default_factory=Counter)
    not_chosen: int = 0


class ImageCaptions:
    """Reads the captions of a data folder; each file is opened once, and only if its caption is used.

    Args:
        subset: the folder and its settings.
        settings: of the whole data set.
        metadata: the entries of metadata files.
        repeats: repeats of the folders.
        show: path → name for messages.
    """

    def __init__(
        self,
        subset: Subset,
        settings: DataSettings,
        metadata: Metadata,
        repeats: FolderRepeats,
        show: Callable[[Path], str],
    ) -> None:
        # An unknown choice is reported by the checks.
        self._kinds = _KINDS.get(subset.captions, _KINDS["auto"])
        self._settings = settings
        self._metadata = metadata
        self._repeats = repeats
        self._show = show
        self.notes = CaptionNotes()

    def read(self, entry: ImageEntry) -> ImageEntry:
        """The image with its caption and repeats."""
        repeats, text = self._repeats.of(entry.path.parent)
        entry = replace(entry, repeats=repeats, shown=self._show(entry.path))
        try:
            caption = self._first(entry, self._sources(entry), text)
        except UnusableCaption as error:
            return replace(entry, flaws=(error.flaw,), source=UNREADABLE)
        if caption is None:
            return entry
        entry = replace(entry, source=caption.kind, caption_file=caption.file)
        clean = clean_caption(caption.text, fix_punctuation=self._settings.fix_punctuation)
        if clean.had_wide_commas:
            self.notes.wide_commas.append(entry.shown)
        if is_damaged(clean.text):
            self.notes.damaged.append(entry.shown)
        return replace(entry, text=clean.text, is_cut=clean.is_cut)

    def _sources(self, entry: ImageEntry) -> list[tuple[str, Path | str]]:
        """Kinds of sources with their file or caption, in order of precedence."""
        entries = self._metadata.find(entry.path)
        found: list[tuple[str, Path | str]] = [(_kind_of(file), text) for file, text in entries]
        found += [(path.suffix.lower(), path) for path in entry.captions]
        self.notes.not_chosen += sum(kind not in self._kinds for kind, _ in found)
        chosen = [source for source in found if source[0] in self._kinds]
        return sorted(chosen, key=lambda source: self._kinds.index(source[0]))

    def _first(self, entry: ImageEntry, sources: Sequence[tuple[str, Path | str]], folder_text: str) -> _Caption | None:
        """The caption of the first source that has one."""
        for index, (kind, source) in enumerate(sources):
            caption = source if isinstance(source, str) else self._from_file(entry, source)
            if caption is not None:
                kinds = tuple(dict.fromkeys(kind for kind, _ in sources[index:]))
                if len(sources) - index > 1:
                    self.notes.several[kinds] += 1
                return _Caption(caption, kind, None if isinstance(source, str) else source)
        if "file name" in self._kinds:
            name = _from_name(entry.path)
            return _Caption(name, "file name") if name else None
        text = _folder_name(entry.path.parent) if "any folder" in self._kinds else folder_text
        if not text or not {"folder", "any folder"}.intersection(self._kinds):
            return None
        self.notes.folder_texts[text] += 1
        return _Caption(text, "folder")

    def _from_file(self, entry: ImageEntry, path: Path) -> str | None:
        """The caption in a file of one image; None if it has none.

        Raises:
            UnusableCaption: the file cannot be used.
        """
        shown = self._show(path)
        data = read_caption_file(path, shown)
        text = decode(data, self._settings.caption_encoding)
        if text is None:
            self.notes.sample = self.notes.sample or data
            self.notes.undecoded.append(shown)
            raise _reported(f"has a caption file {shown} in an unknown encoding", f"Save {shown} as UTF-8.")
        if path.suffix.lower() != ".json":
            return text
        try:
            value = parse_json(text)
        except ValueError as error:
            reason = f"has a caption file {shown} that is not JSON ({error})"
            raise UnusableCaption(reason, f"Repair or remove {shown}.") from error
        if has_objects(value):
            self.notes.objects.append(entry.shown)
        # A bare list or text does not describe an image.
        return caption_in(value, joins_tags=not meta_name(path.name)) if isinstance(value, dict) else None


def would_count(choice: str, suffix: str, source: str) -> bool:
    """Whether a new caption file of an image would be used instead of the source of its present caption.

    Args:
        choice: where captions come from, see :class:`lib_pivotal.core.config.subset.Subset`.
        suffix: of the new file.
        source: of the present caption; empty if there is none.
    """
    kinds = _KINDS.get(choice, _KINDS["auto"])
    if suffix not in kinds:
        return False
    return source not in kinds or kinds.index(suffix) <= kinds.index(source)


def _reported(reason: str, hint: str) -> UnusableCaption:
    error = UnusableCaption(reason, hint)
    error.flaw = Flaw(reason, hint, is_reported=True)
    return error


def _kind_of(file: MetadataFile) -> str:
    return "Hugging Face metadata" if file.is_hugging_face else "metadata"


def _from_name(path: Path) -> str | None:
    """The name of an image without the numbers around it, such as ``001 zog_2.png``."""
    return _TRAILING_NUMBER.sub("", _LEADING_NUMBER.sub("", path.stem)).strip() or None


def _folder_name(folder: Path) -> str:
    """The name of a folder, without the N of N_text."""
    return _NUMBERED_FOLDER.sub("", folder.name, count=1).strip()
