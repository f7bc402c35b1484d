"""Names of files and folders that mean something to other programs, in lower case."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CONTROLS", "MARKERS", "MULTIPLY", "SYSTEM_FILES", "SYSTEM_FOLDERS", "has_marker"]

SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", ".directory", ".localized", ".gitattributes")
SYSTEM_FOLDERS = (
    "__macosx",
    "@eadir",
    ".git",
    ".cache",
    ".ipynb_checkpoints",
    ".thumbnails",
    ".trashes",
    ".spotlight-v100",
    ".fseventsd",
    "$recycle.bin",
    "#recycle",
    "system volume information",
    "lost+found",
)
"""What operating systems, network drives and notebooks put into folders; skipped without a word."""

MULTIPLY = "multiply.txt"
"""A number: how often the images of its folder count. EveryDream2 and anime_screenshot_pipeline use it."""

MARKERS = ("emb_init.json", "core_tag.json", "core_tags.json")
"""Files at the top of a tree that anime_screenshot_pipeline made."""

CONTROLS = ("wildcard.txt", "flip_p.txt", "cond_dropout.txt", "loss_scale.txt", "global.yaml", "local.yaml")
"""Files that direct other trainers and are not used here."""


def has_marker(folder: Path) -> bool:
    """Whether a folder contains a file of anime_screenshot_pipeline."""
    try:
        return any((folder / name).is_file() for name in MARKERS)
    except OSError:
        return False
