"""Takes the names of concepts from the folders of a data set."""

from __future__ import annotations

import re
from pathlib import Path

from lib_pivotal.core.bundle.names import Tokenizer
from lib_pivotal.core.data.folder import list_folder
from lib_pivotal.core.importers.found import Found, ImportResult
from lib_pivotal.core.importers.name_lists import concept_of
from lib_pivotal.core.importers.source_file import refusal

__all__ = ["import_folder_names"]

_REPEATS = re.compile(r"\d+_(.+)")
_OTHER_KINDS = {"reg", "regularization", "class", "val", "validation", "mask", "masks"}
"""Names of folders that usually have other images than those of a concept."""


def import_folder_names(folder: Path, tokenizer: Tokenizer | None = None) -> ImportResult:
    """A concept for each folder directly in ``folder`` that has images in it or below.

    The name of the folder, without a number of repeats in front of it, becomes a caption tag where it is not the name
    itself, so captions that mention it need no change.

    Args:
        folder: the folder around the folders.
        tokenizer: text → token ids, to find names that are words of the vocabulary; may be None.

    Raises:
        ConfigError: it cannot be read, or there is no such folder in it.
    """
    found = Found(base=folder, kind="folders")
    try:
        children = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except (OSError, ValueError) as error:
        raise refusal(folder, f"It cannot be read ({error}).", "Check the path of the image folder.") from error
    for child in children:
        match = _REPEATS.fullmatch(child.name)
        name = " ".join((match[1] if match else child.name).split())
        if name.lower() in _OTHER_KINDS:
            found.warn(child.name, "Folders of this name have no images of a concept of their own.", "Add it by hand.")
        elif list_folder(child).images:
            _add(found, name)
    if not found.concepts:
        raise refusal(folder, "It has no folders with images.", "Put the images of each concept into a folder.")
    return found.result(tokenizer)


def _add(found: Found, name: str) -> None:
    """Add a concept; a name of several words is written as one, which no caption contains by accident."""
    word = name.replace(" ", "_")
    concept = concept_of(found, word)
    if word != name:
        concept["aliases"] = [name]
