"""What is wrong with a data set, all of it, before the long work starts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.caption import CaptionMaker
from lib_pivotal.core.data.picture_file import DAMAGED
from lib_pivotal.core.data.scan import SUFFIXES, Picture
from lib_pivotal.core.errors import Problem

__all__ = ["inspect_pictures"]

_SMALLEST = 32
"""Shortest side in px that can be trained on."""

_LISTED = 5
"""Files named in one finding; damaged ones get a finding each, up to twice as many."""


def inspect_pictures(folder: Path, pictures: Sequence[Picture], config: TrainConfig) -> list[Problem]:
    """Every finding about the pictures and captions of a folder.

    Reads every picture once, because a truncated file looks fine until it is decoded.

    Args:
        folder: the data folder, named in the findings.
        pictures: what :func:`lib_pivotal.core.data.scan.scan` found there.
        config: concepts and resolution are used.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        return [Problem("data_folder", "error", f"{folder} {what}.", "Give the folder that holds the pictures.")]
    if not pictures:
        formats = ", ".join(SUFFIXES)
        return [
            Problem("data_folder", "error", f"{folder} holds no pictures.", f"It needs files of the kinds {formats}.")
        ]
    problems = _unreadable(folder, pictures)
    readable = [picture for picture in pictures if not picture.problem]
    problems += _sizes(folder, readable, config.resolution)
    problems += _captions(folder, readable)
    problems += _concepts(readable, config)
    return problems


def _names(folder: Path, pictures: Sequence[Picture]) -> str:
    shown = ", ".join(picture.path.relative_to(folder).as_posix() for picture in pictures[:_LISTED])
    more = len(pictures) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _unreadable(folder: Path, pictures: Sequence[Picture]) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, Picture] = {}
    damaged = 0
    copies: list[tuple[Picture, Picture]] = []
    for picture in pictures:
        name = picture.path.relative_to(folder).as_posix()
        problem = picture.problem or _decode_problem(picture.path, seen, picture, copies)
        if not problem:
            continue
        damaged += 1
        if damaged <= 2 * _LISTED:
            problems.append(Problem(name, "error", f"The picture {name} {problem}.", "Repair or remove it."))
    if damaged > 2 * _LISTED:
        more = f"{damaged - 2 * _LISTED} more pictures cannot be used."
        problems.append(Problem("data_folder", "error", more, "Repair or remove them, too."))
    return problems + _copies(folder, copies)


def _copies(folder: Path, copies: Sequence[tuple[Picture, Picture]]) -> list[Problem]:
    problems = []
    for first, second in copies[:_LISTED]:
        problems.append(
            Problem(
                second.path.relative_to(folder).as_posix(),
                "warning",
                f"It shows the same picture as {first.path.relative_to(folder).as_posix()}.",
                "Remove one, or use a folder named N_name to repeat pictures.",
            )
        )
    if len(copies) > _LISTED:
        more = f"{len(copies) - _LISTED} more pictures are there twice."
        problems.append(Problem("data_folder", "warning", more, "Remove the copies."))
    return problems


def _decode_problem(
    path: Path, seen: dict[str, Picture], picture: Picture, copies: list[tuple[Picture, Picture]]
) -> str:
    """Why the pixels cannot be decoded, or nothing; notes pictures that were seen already."""
    try:
        with Image.open(path) as image:
            # A palette's numbers mean nothing alone; every other mode is compared as it is.
            shown = image.convert("RGBA") if image.mode == "P" else image
            digest = hashlib.sha256(shown.tobytes() + f"{shown.mode}{shown.size}".encode()).hexdigest()
    except DAMAGED as error:
        return f"is damaged ({error})"
    if digest in seen:
        copies.append((seen[digest], picture))
    else:
        seen[digest] = picture
    return ""


def _sizes(folder: Path, pictures: Sequence[Picture], resolution: int) -> list[Problem]:
    problems = []
    tiny = [p for p in pictures if min(p.width, p.height) < _SMALLEST]
    if tiny:
        problems.append(
            Problem(
                "data_folder",
                "error",
                f"Too small to train on (under {_SMALLEST} px): {_names(folder, tiny)}.",
                "Replace or remove them.",
            )
        )
    small = [p for p in pictures if p not in tiny and p.width * p.height * 4 < resolution * resolution]
    if small:
        problems.append(
            Problem(
                "resolution",
                "warning",
                f"Less than half of {resolution} px a side, and will be enlarged: {_names(folder, small)}.",
                "Use larger pictures or a lower resolution.",
            )
        )
    long = [p for p in pictures if p not in tiny and max(p.width, p.height) > 4 * min(p.width, p.height)]
    if long:
        problems.append(
            Problem(
                "data_folder",
                "warning",
                f"Longer than 4:1, so the ends are cut off: {_names(folder, long)}.",
                "Crop them to what should be learnt.",
            )
        )
    return problems


def _captions(folder: Path, pictures: Sequence[Picture]) -> list[Problem]:
    bare = [picture for picture in pictures if not picture.caption]
    if not bare:
        return []
    if len(bare) == len(pictures):
        return [
            Problem(
                "data_folder",
                "error",
                f"No picture in {folder} has a caption.",
                "Put a .txt file of the same name beside each picture: the concept's name, then what varies.",
            )
        ]
    return [
        Problem(
            "data_folder",
            "warning",
            f"No caption: {_names(folder, bare)}.",
            "They are trained with an empty caption; put a .txt file of the same name beside each.",
        )
    ]


def _concepts(pictures: Sequence[Picture], config: TrainConfig) -> list[Problem]:
    if not any(picture.caption for picture in pictures):
        return []
    maker = CaptionMaker([concept for concept in config.concepts if concept.name.strip()], config)
    mentioned = set().union(*(maker.concepts_in(picture.caption or "") for picture in pictures))
    return [
        Problem(
            f"concepts[{index}].name",
            "error",
            f"No caption mentions {concept.name}, so nothing would train it.",
            "Write the name into captions, or list a tag that stands for it as an alias.",
        )
        for index, concept in enumerate(config.concepts)
        if concept.name.strip() and concept.name not in mentioned
    ]
