"""Lists a data folder: images with their captions, and the number of unused files by kind."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from lib_pivotal.core.config.user_path import bare_path
from lib_pivotal.core.data.image_file import readable_suffixes
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.folder_walk import walk

__all__ = ["MASK_MARK", "FolderContents", "ImageEntry", "find_folder", "list_folder"]

MASK_MARK = "-masklabel"
"""What follows the name of an image in the name of its mask."""

_CAPTION = ".txt"
_CAPTION_LIKE = (_CAPTION, ".caption", ".captions", ".text", ".tags", ".json")
"""Suffixes that other programs use for captions; only the first is read."""

_SYSTEM_FILES = ("thumbs.db", "desktop.ini")
_LATENTS = re.compile(r"[0-9a-f]{64}\.safetensors")
_MAX_SUFFIX_LENGTH = 12


@dataclass(frozen=True)
class ImageEntry:
    """An image file.

    Attributes:
        path: path of the image.
        caption: its caption file; None if there is none.
        lookalikes: names of files next to it that may be meant as its caption.
        mask: its ``NAME-masklabel`` file; None if there is none.
    """

    path: Path
    caption: Path | None
    lookalikes: tuple[str, ...] = ()
    mask: Path | None = None


@dataclass
class FolderContents:
    """What was found in a folder and its subfolders.

    Attributes:
        images: images, sorted by relative path.
        unused: kind → number of files (or folders) that are not used.
        closed: folder that cannot be listed → reason.
    """

    images: list[ImageEntry] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    closed: list[tuple[Path, str]] = field(default_factory=list)


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


def list_folder(folder: Path, *, subfolders: bool = True, masks: Collection[Path] = ()) -> FolderContents:
    """List everything in ``folder`` and, with ``subfolders``, below it; no file is opened.

    Hidden files, hidden folders and masks are left out, as are files that this project writes: run folders, cover
    images of bundles and stored latents. See :func:`lib_pivotal.core.folder_walk.walk` for links.

    Args:
        folder: the folder.
        subfolders: whether its subfolders belong to it.
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
            if subfolders and not _is_hidden(entry.name) and not (left_out and os.path.realpath(entry.path) in left_out)
        ]
        _sort_out(path, [entry for entry in files if not _is_hidden(entry.name)], contents)
    contents.images.sort(key=lambda image: image.path.relative_to(folder).as_posix())
    return contents


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


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
        stem, suffix = _split(entry.name)
        if suffix.lower() not in suffixes:
            others.append(entry.name)
        elif entry.name not in files:
            contents.unused["special file"] += 1
        elif stem.endswith(MASK_MARK):
            if masks.setdefault(_alike(stem.removesuffix(MASK_MARK)), entry.name) != entry.name:
                contents.unused["mask without an image"] += 1
        elif f"{stem.removesuffix('.preview')}.safetensors" in files:
            contents.unused["cover image of a bundle"] += 1
        else:
            images.append(entry.name)
    captions = _captions(images, others)
    used = set(captions.values())
    rest = [name for name in others if name not in used]
    similar = _by_stem(rest, suffixes)
    for name in images:
        caption = captions.get(name)
        lookalikes = () if caption else tuple(similar.get(_alike(_split(name)[0]), ()))
        mask = masks.get(_alike(_split(name)[0]))
        contents.images.append(
            ImageEntry(
                folder / name, folder / caption if caption else None, lookalikes, folder / mask if mask else None
            )
        )
    lonely = masks.keys() - {_alike(_split(name)[0]) for name in images}
    contents.unused.update(["mask without an image"] * len(lonely))
    contents.unused.update(_kind(name, files) if name in files else "special file" for name in rest)


def _captions(images: list[str], others: list[str]) -> dict[str, str]:
    """Image → caption file of the same stem; case and Unicode form may differ if the match is unambiguous."""
    stems = {name: _split(name)[0] for name in images}
    there = set(others)
    found = {name: stem + _CAPTION for name, stem in stems.items() if stem + _CAPTION in there}
    free: dict[str, list[str]] = {}
    for other in there.difference(found.values()):
        free.setdefault(_alike(other), []).append(other)
    rivals: dict[str, set[str]] = {}
    for name, stem in stems.items():
        if name not in found:
            rivals.setdefault(_alike(stem + _CAPTION), set()).add(stem)
    for name, stem in stems.items():
        key = _alike(stem + _CAPTION)
        if name not in found and len(free.get(key, ())) == len(rivals[key]) == 1:
            found[name] = free[key][0]
    return found


def _by_stem(names: list[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Possible caption files by the stem of their image: ``a.caption``, ``a.png.txt``, ``a.txt.txt``, ``A.TXT``."""
    found: dict[str, list[str]] = {}
    for name in names:
        stem, suffix = _split(name)
        if suffix.lower() not in _CAPTION_LIKE:
            continue
        while suffix.lower() in (*_CAPTION_LIKE, *suffixes):
            found.setdefault(_alike(stem).strip(), []).append(name)
            stem, suffix = _split(stem)
    return found


def _split(name: str) -> tuple[str, str]:
    """Stem and suffix of a file name."""
    path = PurePath(name)
    return path.stem, path.suffix


def _alike(name: str) -> str:
    """Normalized name, equal for names that Windows or macOS cannot tell apart."""
    return unicodedata.normalize("NFC", name).casefold()


def _kind(name: str, files: set[str]) -> str:
    if _LATENTS.fullmatch(name):
        return "stored latents"
    stem, suffix = _split(name)
    suffix = suffix.lower()
    if suffix in (".safetensors", ".json") and f"{stem}.safetensors" in files:
        return "file of a model"
    if suffix == _CAPTION:
        return f"{_CAPTION} without an image"
    return suffix if 1 < len(suffix) <= _MAX_SUFFIX_LENGTH and suffix.isprintable() else "other file"
