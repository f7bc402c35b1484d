"""Finds all problems with a dataset before training starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import REGULARIZATION
from lib_pivotal.core.data.caption_findings import caption_problems
from lib_pivotal.core.data.dataset_report import DatasetReport
from lib_pivotal.core.data.image_file import readable_suffixes
from lib_pivotal.core.data.kind_findings import kind_problems
from lib_pivotal.core.data.mask_findings import mask_problems, transparency_problems
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.shown import listed, shown_path
from lib_pivotal.core.errors import Problem

__all__ = ["MIN_SIDE", "dataset_problems"]

MIN_SIDE = 32
"""Minimum side length in px of a training image."""

_LISTED = 5
"""Maximum number of files named in one finding; up to twice as many unusable files get their own finding."""

_MAX_KINDS = 12

_PLURALS = {
    "run folder": "run folders",
    "cover image of a bundle": "cover images of bundles",
    "file of a model": "files of models",
    "stored latents": "files of stored latents",
    "mask (-masklabel)": "masks (-masklabel)",
    "mask without an image": "masks without an image",
    "special file": "special files",
    "subfolder": "subfolders",
    "hidden file": "hidden files",
    "hidden folder": "hidden folders",
    "caption of another source": "captions of another source",
    "link to a folder around this one": "links to folders around this one",
    "other file": "other files",
}


def dataset_problems(
    report: DatasetReport, config: TrainConfig, tokenizer: Callable[[str], list[int]] | None = None
) -> list[Problem]:
    """Find all problems with the images and captions of a dataset; no file is read.

    Args:
        report: contents of the folder.
        config: its concepts and resolution are used.
        tokenizer: text → token ids; None if no model is loaded.
    """
    problems = [*report.problems, *_unused(report)]
    if not report.images:
        if not any(problem.is_error for problem in report.problems):
            kinds = ", ".join(readable_suffixes())
            text = f"{shown_path(report.folder)} contains no images."
            problems.append(Problem("data_folder", "error", text, f"Add images ({kinds})."))
        return problems
    problems += _flaws(report.images)
    problems += _notes(report.usable)
    problems += kind_problems(report, config)
    problems += _copies([pair for pair in report.copies if _is_unwanted(*pair, config)])
    problems += _sizes(report.usable, config.resolution)
    problems += transparency_problems(report.usable, config) + mask_problems(report, config)
    if any(problem.field == "caption_template" for problem in report.problems):
        config = replace(config, caption_template="")
    return problems + caption_problems(report.usable, report.folder, config, tokenizer)


def _unused(report: DatasetReport) -> list[Problem]:
    if not report.unused:
        return []
    kinds = sorted(report.unused.items(), key=lambda item: (-item[1], item[0]))
    counted = [_counted(kind, count) for kind, count in kinds[:_MAX_KINDS]]
    more = sum(count for _, count in kinds[_MAX_KINDS:])
    if more:
        counted.append(f"{more} more files")
    hint = "Training results and stored latents are never used as training data."
    if any(kind.startswith(".") for kind, _ in kinds):
        hint = "Convert images to PNG or JPEG, and give each caption the name of its image with the suffix .txt."
    return [Problem("data_folder", "warning", f"Not used: {', '.join(counted)}.", hint)]


def _counted(kind: str, count: int) -> str:
    return f"{count} {kind if count == 1 else _PLURALS.get(kind, kind)}"


def _names(images: Sequence[DatasetImage]) -> str:
    return listed([image.shown for image in images])


def _flaws(images: Sequence[DatasetImage]) -> list[Problem]:
    found = [
        Problem(image.shown, "error", f"The image {image.shown} {flaw.reason}.", flaw.hint)
        for image in images
        for flaw in image.flaws
        if not flaw.is_reported
    ]
    more = len({problem.field for problem in found[2 * _LISTED :]})
    if not more:
        return found
    text = f"{more} more images or captions cannot be used."
    return [*found[: 2 * _LISTED], Problem("data_folder", "error", text, "Fix these problems first.")]


_NOTES = {
    "animation": ("Only the first frame of these animations is used", "Save other frames as images of their own."),
    "cmyk": ("These images are in CMYK, so their colors may shift", "Convert them to RGB."),
}
"""Note of an image → what is said about all images that have it, and what to do."""


def _notes(images: Sequence[DatasetImage]) -> list[Problem]:
    problems = []
    for note, (text, hint) in _NOTES.items():
        found = [image for image in images if note in image.notes]
        if found:
            problems.append(Problem("data_folder", "warning", f"{text}: {_names(found)}.", hint))
    return problems


def _is_unwanted(first: DatasetImage, second: DatasetImage, config: TrainConfig) -> bool:
    """Whether copies are reported; as regularization images with a prior, training images are used on purpose."""
    kinds = {first.subset.kind, second.subset.kind}
    return len(kinds) == 1 or REGULARIZATION not in kinds or config.regularization_target != "prior"


def _copies(copies: Sequence[tuple[DatasetImage, DatasetImage]]) -> list[Problem]:
    problems = [
        Problem(
            second.shown,
            "warning",
            f"It has the same pixels as {first.shown}.",
            "Remove one, or use a folder named N_name to repeat images.",
        )
        for first, second in copies[:_LISTED]
    ]
    if len(copies) > _LISTED:
        more = f"{len(copies) - _LISTED} more images are duplicates."
        problems.append(Problem("data_folder", "warning", more, "Remove the duplicates."))
    return problems


def _sizes(images: Sequence[DatasetImage], resolution: int) -> list[Problem]:
    problems = []
    tiny = [image for image in images if min(image.width, image.height) < MIN_SIDE]
    others = [image for image in images if min(image.width, image.height) >= MIN_SIDE]
    if tiny:
        text = f"Too small to train on (under {MIN_SIDE} px): {_names(tiny)}."
        problems.append(Problem("data_folder", "error", text, "Replace or remove them."))
    small = [image for image in others if image.width * image.height * 4 < resolution * resolution]
    if small:
        text = f"Smaller than half of {resolution} px per side, so they will be enlarged: {_names(small)}."
        problems.append(Problem("resolution", "warning", text, "Use larger images or a lower resolution."))
    long = [image for image in others if max(image.width, image.height) > 4 * min(image.width, image.height)]
    if long:
        text = f"Aspect ratio above 4:1, so the ends are cropped: {_names(long)}."
        problems.append(Problem("data_folder", "warning", text, "Crop them to the part that should be learned."))
    return problems
