"""Lists a data folder: images with their captions, and the number of unused files by kind."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lib_pivotal.core.config.user_path import bare_path
from lib_pivotal.core.data.caption_match import alike, captions_by_image, lookalikes_by_stem, meta_name, split_name
from lib_pivotal.core.data.flaw import Flaw
from lib_pivotal.core.data.image_file import readable_suffixes
from lib_pivotal.core.data.known_files import CONTROLS, MARKERS, MULTIPLY, SYSTEM_FILES, SYSTEM_FOLDERS
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.folder_walk import walk

__all__ = ["MASK_MARK", "FolderContents", "ImageEntry", "find_folder", "list_folder"]

MASK_MARK = "-masklabel"
"""What follows the name of an image in the name of its mask."""


_METADATA = (".json", ".jsonl", ".csv")

_LATENTS = re.compile(r"[0-9a-f]{64}\.safetensors")
_MAX_SUFFIX_LENGTH = 12


@dataclass(frozen=True)
class ImageEntry:
    """An image file.

    Attributes:
        path: path of the image.
        captions: its caption files, in order of precedence.
        lookalikes: names of files next to it that may be meant as its caption.
        shown: path for messages, relative to the data folder.
        text: its caption; None if there is none, and until the captions have been read.
        is_cut: whether the webui's generation data was removed from the caption.
        repeats: how often it counts, > 0.
        flaws: why its caption cannot be used.
        source: where its caption comes from, such as ``.txt``, ``metadata`` or ``folder``; empty if it has none.
        caption_file: the file of its own that its caption comes from; None if it comes from elsewhere.
        mask: its ``NAME-masklabel`` file; None if there is none.
    """

    path: Path
    captions: tuple[Path, ...] = ()
    lookalikes: tuple[str, ...] = ()
    shown: str = ""
    text: str | None = None
    is_cut: bool = False
    repeats: float = 1.0
    flaws: tuple[Flaw, ...] = ()
    source: str = ""
    caption_file: Path | None = None
    mask: Path | None = None


@dataclass
class FolderContents:
    """What was found in a folder and its subfolders.

    Attributes:
        images: images, sorted by relative path.
        unused: kind → number of files (or folders) that are not used.
        closed: folder that cannot be listed → reason.
        metadata: files that may contain the captions of several images, sorted by relative path.
        multiply: files ``multiply.txt`` by their folder.
        markers: folders with files of anime_screenshot_pipeline.
        hidden_suffix: files that are called ``multiply.txt.txt``.
    """

    images: list[ImageEntry] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    closed: list[tuple[Path, str]] = field(default_factory=list)
    metadata: list[Path] = field(default_factory=list)
    multiply: dict[Path, Path] = field(default_factory=dict)
    markers: set[Path] = field(default_factory=set)
    hidden_suffix: list[Path] = field(default_factory=list)


def find_folder(text: str, what: str = "image") -> tuple[Path, tuple[str, str] | None]:
    """Find the folder a user means; surrounding spaces and the quotes of Windows' "Copy as path" are allowed.

    Args:
        text: the path as the user gave it.
        what: what is in it, for messages.

    Returns:
        The folder, and None or the problem and what to do.
    """
    bare = bare_path(text)
    if not bare:
        return Path(text), (f"No {what} folder is given.", f"Choose the folder that contains the {what}s.")
    paths = [_expanded(given) for given in dict.fromkeys((text, text.strip(), bare))]
    answers = [_obstacle(path) for path in paths]
    # A real name may contain such characters; if neither exists, the message shows the plain one.
    index = answers.index("") if "" in answers else -1
    if not answers[index]:
        return paths[index], None
    return paths[index], (
        f"{shown_path(paths[index])} {answers[index]}.",
        f"Choose the folder that contains the {what}s.",
    )


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        # No user of this name exists.
        return Path(text)


def _obstacle(path: Path) -> str:
    """Why a path is not a folder; empty if it is one."""
    try:
        return "" if stat.S_ISDIR(path.stat().st_mode) else "is a file"
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "does not exist"
    except OSError as error:
        return f"cannot be opened ({error.strerror or error})"


def list_folder(
    folder: Path, *, subfolders: bool = True, apart: frozenset[str] = frozenset(), masks: Collection[Path] = ()
) -> FolderContents:
    """List everything in ``folder`` and, with ``subfolders``, below it; no file is opened.

    Hidden files, hidden folders and masks are left out, as are files that this project writes: run folders, cover
    images of bundles and stored latents. See :func:`lib_pivotal.core.folder_walk.walk` for links.

    Args:
        folder: the folder.
        subfolders: whether the folders in it are listed, too.
        apart: real paths of folders that are not entered, because they are listed on their own.
        masks: folders of masks, which are left out.
    """
    left_out = {os.path.realpath(path) for path in masks}
    contents = FolderContents()

    def skip(path: Path, error: OSError | None) -> None:
        if error is None:
            contents.unused["link to a folder around this one"] += 1
        else:
            contents.closed.append((path, error.strerror or str(error)))

    for path, folders, files in walk(folder, on_skip=skip):
        if path != folder and _is_run([*folders, *files]):
            contents.unused["run folder"] += 1
            folders.clear()
            continue
        folders[:] = [
            entry
            for entry in folders
            if _is_entered(entry, apart, contents) and not (left_out and os.path.realpath(entry.path) in left_out)
        ]
        if not subfolders:
            contents.unused.update(["subfolder"] * len(folders))
            folders.clear()
        _sort_out(path, _visible(files, contents), contents)
    contents.images.sort(key=lambda image: image.path.relative_to(folder).as_posix())
    contents.metadata.sort(key=lambda path: path.relative_to(folder).as_posix())
    return contents


def _is_entered(entry: os.DirEntry[str], apart: frozenset[str], contents: FolderContents) -> bool:
    if entry.name.lower() in SYSTEM_FOLDERS:
        return False
    if entry.name.startswith("."):
        contents.unused["hidden folder"] += 1
        return False
    return not apart or os.path.realpath(entry.path) not in apart


def _visible(entries: list[os.DirEntry[str]], contents: FolderContents) -> list[os.DirEntry[str]]:
    """The files that are not hidden, and the hidden ones of waifuc."""
    found = []
    for entry in entries:
        name = entry.name
        if name.startswith("._") or name.lower() in SYSTEM_FILES:
            continue
        if name.startswith(".") and not meta_name(name):
            contents.unused["hidden file"] += 1
        else:
            found.append(entry)
    return found


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_run(entries: Iterable[os.DirEntry[str]]) -> bool:
    """Whether a folder is a run folder, judged by its contents; its samples are not training data."""
    names = {entry.name for entry in entries}
    return "config.json" in names and bool(names & {"loss.csv", "states"})


def _sort_out(folder: Path, entries: list[os.DirEntry[str]], contents: FolderContents) -> None:
    suffixes = readable_suffixes()
    files = {entry.name for entry in entries if _is_file(entry)}
    images, others, masks = list[str](), list[str](), dict[str, str]()
    for entry in entries:
        stem, suffix = split_name(entry.name)
        if suffix.lower() not in suffixes:
            others.append(entry.name)
        elif entry.name not in files:
            contents.unused["special file"] += 1
        elif stem.endswith(MASK_MARK):
            if masks.setdefault(alike(stem.removesuffix(MASK_MARK)), entry.name) != entry.name:
                contents.unused["mask without an image"] += 1
        elif f"{stem.removesuffix('.preview')}.safetensors" in files:
            contents.unused["cover image of a bundle"] += 1
        else:
            images.append(entry.name)
    captions = captions_by_image(images, others)
    used = {name for names in captions.values() for name in names}
    rest = [name for name in others if name not in used and not _is_control(folder, name, contents)]
    similar = lookalikes_by_stem(rest, suffixes)
    for name in images:
        own = captions.get(name, ())
        stem = alike(split_name(name)[0])
        lookalikes = () if own else tuple(similar.get(stem, ()))
        mask = folder / masks[stem] if stem in masks else None
        contents.images.append(ImageEntry(folder / name, tuple(folder / item for item in own), lookalikes, mask=mask))
    lonely = masks.keys() - {alike(split_name(name)[0]) for name in images}
    contents.unused.update(["mask without an image"] * len(lonely))
    for name in rest:
        kind = _kind(name, files) if name in files else "special file"
        if kind in _METADATA:
            contents.metadata.append(folder / name)
        else:
            contents.unused[kind] += 1


def _is_control(folder: Path, name: str, contents: FolderContents) -> bool:
    """Whether a file directs trainers; it is noted."""
    lower = name.lower()
    if lower == MULTIPLY:
        contents.multiply[folder] = folder / name
    elif lower == f"{MULTIPLY}.txt":
        contents.hidden_suffix.append(folder / name)
    elif lower in MARKERS or lower in CONTROLS:
        contents.unused[lower] += 1
    else:
        return False
    if lower in MARKERS:
        contents.markers.add(folder)
    return True


def _kind(name: str, files: set[str]) -> str:
    if _LATENTS.fullmatch(name):
        return "stored latents"
    stem, suffix = split_name(name)
    suffix = suffix.lower()
    if suffix in (".safetensors", ".json") and f"{stem}.safetensors" in files:
        return "file of a model"
    if meta_name(name):
        return "file of waifuc without an image"
    if suffix == ".txt":
        return ".txt without an image"
    return suffix if 1 < len(suffix) <= _MAX_SUFFIX_LENGTH and suffix.isprintable() else "other file"
