"""Finds the caption files of images by their names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["CAPTION_SUFFIXES", "alike", "captions_by_image", "lookalikes_by_stem", "meta_name", "split_name"]

CAPTION_SUFFIXES = (".txt", ".caption", ".json")
"""Suffixes of caption files, in order of precedence."""

_CAPTION_LIKE = (*CAPTION_SUFFIXES, ".captions", ".text", ".tags")
"""Suffixes that other programs use for captions."""

_META = re.compile(r"\.(.+)_meta\.json", re.IGNORECASE)


def split_name(name: str) -> tuple[str, str]:
    """Stem and suffix of a file name, as ``pathlib`` splits it, which takes ten times as long."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")


def alike(name: str) -> str:
    """Normalized name, equal for names that Windows or macOS cannot tell apart."""
    return unicodedata.normalize("NFC", name).casefold()


def meta_name(name: str) -> str:
    """Stem of the image that a hidden file ``.stem_meta.json`` of waifuc belongs to; empty for other files."""
    match = _META.fullmatch(name)
    return match[1] if match else ""


def captions_by_image(images: Sequence[str], others: Iterable[str]) -> dict[str, list[str]]:
    """The caption files of each image of a folder, in order of precedence.

    A caption has the name of its image with the suffix replaced or added: ``a.txt`` or ``a.png.txt``. Case and Unicode
    form may differ if the match is unambiguous.

    Args:
        images: names of the images.
        others: names of all other files.
    """
    there = set(others)
    stems = {name: split_name(name)[0] for name in images}
    found: dict[str, list[str]] = {}
    for suffix in CAPTION_SUFFIXES:
        ending = {other for other in there if other.lower().endswith(suffix)}
        if not ending:
            continue
        by_stem = _matched({name: stem + suffix for name, stem in stems.items()}, ending)
        rest = {name: name + suffix for name in images if name not in by_stem}
        by_name = _matched(rest, ending.difference(by_stem.values()))
        for image, caption in (*by_stem.items(), *by_name.items()):
            found.setdefault(image, []).append(caption)
    meta = {alike(stem): other for other in there if (stem := meta_name(other))}
    for image, stem in stems.items():
        if meta and (other := meta.get(alike(stem))) is not None:
            found.setdefault(image, []).append(other)
    return found


def _matched(wanted: dict[str, str], there: set[str]) -> dict[str, str]:
    """Image → the file with the wanted name, or else the only one whose name is alike."""
    found = {image: name for image, name in wanted.items() if name in there}
    free: dict[str, list[str]] = {}
    for other in there.difference(found.values()):
        free.setdefault(alike(other), []).append(other)
    rivals: dict[str, set[str]] = {}
    keys = {image: alike(name) for image, name in wanted.items() if image not in found} if free else {}
    for image, key in keys.items():
        rivals.setdefault(key, set()).add(wanted[image])
    for image, key in keys.items():
        if len(free.get(key, ())) == len(rivals[key]) == 1:
            found[image] = free[key][0]
    return found


def lookalikes_by_stem(names: Iterable[str], image_suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Files that may be meant as captions, by the normalized stem of their image: ``a.tags``, ``a.txt.txt``.

    Args:
        names: names of files that belong to no image.
        image_suffixes: suffixes of images.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        stem, suffix = split_name(name)
        if suffix.lower() not in _CAPTION_LIKE:
            continue
        while suffix.lower() in (*_CAPTION_LIKE, *image_suffixes):
            found.setdefault(alike(stem).strip(), []).append(name)
            stem, suffix = split_name(stem)
    return found
