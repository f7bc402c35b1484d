"""Finds problems with regularization and validation images, and says how many there are."""

from __future__ import annotations

from collections.abc import Sequence

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import REGULARIZATION, TRAIN, VALIDATION
from lib_pivotal.core.data.caption import CaptionMaker
from lib_pivotal.core.data.class_words import class_noun
from lib_pivotal.core.data.dataset_report import DatasetReport
from lib_pivotal.core.data.kinds import images_of_kind, regularization_share
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.shown import listed
from lib_pivotal.core.data.validation_images import MAX_MEASURED, images_to_measure
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = ["kind_problems"]


def kind_problems(report: DatasetReport, config: TrainConfig) -> list[Problem]:
    """Find all problems with the kinds of images; no file is read.

    Args:
        report: contents of the folders.
        config: the settings.
    """
    images = report.usable
    problems = []
    if images and not images_of_kind(images, TRAIN):
        text = "There are no images to train, only regularization or validation images."
        problems.append(Problem("subsets", "error", text, "Add a folder of the kind train."))
    return [*problems, *_regularization(images, config), *_validation(report, config)]


def _names(images: Sequence[DatasetImage]) -> str:
    return listed([image.shown for image in images])


def _count(count: int, kind: str) -> str:
    return f"{count} {kind} image{'' if count == 1 else 's'}"


def _regularization(images: Sequence[DatasetImage], config: TrainConfig) -> list[Problem]:
    found = images_of_kind(images, REGULARIZATION)
    if not found:
        if config.regularization_target != "prior":
            return []
        text = "There are no regularization images, so there is nothing that this applies to."
        hint = "Add a folder of the kind regularization; it may be the image folder once more."
        return [Problem("regularization_target", "warning", text, hint)]
    problems = _names_in_captions(found, config)
    share = regularization_share(images, config)
    if share:
        text = f"{_count(len(found), 'regularization')} make up {share:.0%} of the samples."
        hint = f"{_count(len(images_of_kind(images, TRAIN)), 'training')} make up the rest."
        return [*problems, Problem("regularization_share", "warning", text, hint)]
    text = f"{_count(len(found), 'regularization')} are not used, because "
    if config.regularization_share:
        text += "no LoRA is trained, and embeddings change nothing where they are not mentioned."
        return [*problems, Problem("rank", "warning", text, "Train a LoRA, or remove the folder.")]
    return [
        *problems,
        Problem("regularization_share", "warning", f"{text}their share is 0.", "Use 0.1, or remove the folder."),
    ]


def _names_in_captions(images: Sequence[DatasetImage], config: TrainConfig) -> list[Problem]:
    """A regularization image must not teach a name: the names are replaced, or there must not be any."""
    concepts = [concept for concept in config.concepts if concept.name.strip()]
    maker = CaptionMaker(concepts, config)
    mentions = [(image, maker.concepts_in(image.caption or "")) for image in images]
    is_prior = config.regularization_target == "prior"
    problems = []
    for index, concept in enumerate(config.concepts):
        found = [image for image, names in mentions if concept.name in names]
        name = printable(concept.name)
        if found and not is_prior:
            text = f"Captions of regularization images mention {name} by its name or a caption tag: {_names(found)}."
            hint = "Remove it from these captions, or choose the regularization target prior."
            problems.append(Problem("subsets", "error", text, hint))
        elif found and not class_noun(concept):
            text = f"Captions of regularization images mention {name}, and there is no other word for it."
            hint = "Say in a word what it is, such as girl or robot."
            problems.append(Problem(f"concepts[{index}].class_noun", "error", text, hint))
    for index, subset in enumerate(config.subsets):
        if subset.kind == REGULARIZATION and subset.always and not is_prior:
            text = "Names that always apply would be part of the captions of regularization images."
            problems.append(Problem(f"subsets[{index}].always", "error", text, "Remove them."))
    return problems


def _validation(report: DatasetReport, config: TrainConfig) -> list[Problem]:
    found = images_of_kind(report.usable, VALIDATION)
    if not found:
        if not config.validation_share:
            return []
        text = "There are too few images that differ from each other to hold one out, so nothing is measured."
        return [Problem("validation_share", "warning", text, "Add images, or use 0.")]
    field = "validation_share" if config.validation_share else "subsets"
    measured = images_to_measure(report.usable, report.copies, config)
    text = f"{_count(len(found), 'validation')} {'is' if len(found) == 1 else 'are'} not trained: {_names(found)}."
    problems = [Problem(field, "warning", text, f"{len(measured)} of them {_is(len(measured))} measured.")]
    left_out = set(found).difference(measured)
    if left_out and len(measured) < MAX_MEASURED:
        rest = [image for image in found if image in left_out]
        text = f"Not measured: {_names(rest)}."
        hint = "They mention no concept, or are copies of other images."
        problems.append(Problem(field, "warning", text, hint))
    return problems


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
