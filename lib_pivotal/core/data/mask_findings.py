"""Finds problems with masks and with transparent images."""

from __future__ import annotations

from collections.abc import Sequence

from lib_pivotal.core.config.negative import has_negatives
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.background import BACKGROUNDS
from lib_pivotal.core.data.dataset_report import DatasetReport
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.shown import listed
from lib_pivotal.core.data.subsets import subsets_of
from lib_pivotal.core.errors import Problem

__all__ = ["mask_problems", "transparency_problems"]

_TRANSPARENT_FROM = 0.01
"""Transparent share of an image from which its background matters."""

_MAX_LOST = 0.5
"""Share of a mask that may be too fine for latents."""


def mask_problems(report: DatasetReport, config: TrainConfig) -> list[Problem]:
    """Find all problems with the masks of the images.

    Args:
        report: contents of the folders.
        config: its settings of masks are used.
    """
    problems = _unused(report, config) + _prior(config)
    expected = [image for image in report.usable if image.subset.masks in ("alpha", "masklabel", "folder")]
    if not expected:
        return problems
    return problems + _missing(expected) + _without_effect(config) + _contents(expected, config)


def transparency_problems(images: Sequence[DatasetImage], config: TrainConfig) -> list[Problem]:
    """Count images with transparent parts and say what these show.

    Args:
        images: the usable images.
        config: its background and masks are used.
    """
    found = [image for image in images if image.transparency > _TRANSPARENT_FROM]
    if not found:
        return []
    text = f"More than 1 % of {_counted(len(found), 'image')} is transparent: {_names(found)}."
    hint = f"Transparent parts show {BACKGROUNDS[config.background]}, which Background can change."
    if any(image.mask is not None for image in found):
        weight = f"count {config.mask_floor:g} times as much as the rest" if config.mask_floor else "do not count"
        hint += f" Where masks leave them out, they {weight}."
    return [Problem("background", "warning", text, hint)]


def _names(images: Sequence[DatasetImage]) -> str:
    return listed([image.shown for image in images])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _unused(report: DatasetReport, config: TrainConfig) -> list[Problem]:
    """Masks or mask folders that are there but not used."""
    problems = []
    count = report.unused.get("mask (-masklabel)", 0)
    if count:
        text = f"Masks are off for {_counted(count, 'image')} with a -masklabel file."
        problems.append(Problem("masks", "warning", text, "Set Masks to masklabel to use these files."))
    subsets = subsets_of(config, config.subsets)
    if config.mask_folder.strip() and not any(subset.masks == "folder" for subset in subsets):
        problems.append(_idle_folder("mask_folder"))
    own = subsets[len(subsets) - len(config.subsets) :]
    return problems + [
        _idle_folder(f"subsets[{index}].mask_folder")
        for index, (given, subset) in enumerate(zip(config.subsets, own, strict=True))
        if given.mask_folder.strip() and subset.masks != "folder"
    ]


def _prior(config: TrainConfig) -> list[Problem]:
    """Check that there is an outside and a LoRA that could change it, and an ordinary prediction to compare."""
    if not config.mask_prior:
        return []
    problems = []
    if all(subset.masks == "none" for subset in subsets_of(config, config.subsets)):
        text = "Without masks there is no outside that could be kept."
        problems.append(Problem("mask_prior", "warning", text, "Choose masks, or set it to 0."))
    if has_negatives(config.concepts):
        text = "It cannot be combined with negative embeddings, which train a guided prediction."
        problems.append(Problem("mask_prior", "error", text, "Set it to 0, or train without negative vectors."))
    if not (config.rank or config.conv_rank or config.text_encoder_rank):
        text = "It limits what the LoRA does, and this run has none."
        problems.append(Problem("mask_prior", "warning", text, "Give the LoRA a rank, or set it to 0."))
    return problems


def _idle_folder(field: str) -> Problem:
    return Problem(field, "warning", "The mask folder is not used.", "Set Masks to folder to use it.")


def _missing(images: Sequence[DatasetImage]) -> list[Problem]:
    problems = []
    opaque = [image for image in images if image.mask is None and image.subset.masks == "alpha"]
    if opaque:
        text = f"No mask, because nothing is transparent: {_names(opaque)}."
        problems.append(Problem("masks", "warning", text, "These images are trained as a whole."))
    bare = [image for image in images if image.mask is None and image.subset.masks != "alpha"]
    if bare:
        where = "A mask is NAME-masklabel.png next to its image, or has the name of its image in the mask folder."
        text = f"No mask: {_names(bare)}."
        problems.append(Problem("masks", "warning", text, f"These images are trained as a whole. {where}"))
    return problems


def _without_effect(config: TrainConfig) -> list[Problem]:
    return [
        Problem(name, "warning", "With 1, masks have no effect.", "Lower it, or turn masks off.")
        for name in ("mask_floor", "unmasked_share")
        if getattr(config, name) == 1
    ]


def _contents(images: Sequence[DatasetImage], config: TrainConfig) -> list[Problem]:
    """Masks that are empty, without effect, of another shape, colored, or too fine."""
    masked = [(image, image.mask) for image in images if image.mask is not None]
    problems = []
    empty = [image for image, mask in masked if mask.is_empty]
    if empty:
        text = f"The mask leaves out the whole image: {_names(empty)}."
        hint = "Replace the mask, turn on Invert masks, or remove the image."
        if config.mask_floor > 0:
            problems.append(Problem("masks", "warning", text, f"So all of it counts the same. {hint}"))
        else:
            problems.append(Problem("masks", "error", text, hint))
    even = [image for image, mask in masked if mask.is_even and not mask.is_empty]
    if even:
        text = f"The mask leaves out nothing: {_names(even)}."
        problems.append(Problem("masks", "warning", text, "These images are trained as a whole."))
    stretched = [image for image, mask in masked if mask.is_stretched]
    if stretched:
        text = f"The aspect ratio of the mask is not that of the image: {_names(stretched)}."
        hint = "It is stretched over the image. Check that it is the right mask and not turned."
        problems.append(Problem("masks", "warning", text, hint))
    colored = [image for image, mask in masked if mask.is_colored]
    if colored:
        text = f"The mask is colored: {_names(colored)}."
        hint = "In a mask folder only the red channel counts (with the scale hcp: the brightness); else the brightness."
        problems.append(Problem("masks", "warning", text, hint))
    fine = [image for image, mask in masked if mask.lost > _MAX_LOST]
    if fine:
        text = f"Most of the mask is too fine to have an effect: {_names(fine)}."
        hint = "Details of less than 8 px at the training resolution are lost, because a latent cell has 8 × 8 px."
        problems.append(Problem("masks", "warning", text, hint))
    return problems
