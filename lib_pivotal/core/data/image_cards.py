"""What to know about each image of a data set at a glance, and which images a search finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import REGULARIZATION, VALIDATION
from lib_pivotal.core.data.caption_changes import plain_tags
from lib_pivotal.core.data.caption_edits import has_own_file
from lib_pivotal.core.data.caption_tags import plain_words
from lib_pivotal.core.data.dataset_report import DatasetReport
from lib_pivotal.core.data.findings import MIN_SIDE
from lib_pivotal.core.data.folder_captions import image_concepts
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["MARKS", "ImageCard", "ImageSearch", "cards_of", "found_by", "tag_counts"]

MARKS = (
    "unusable",
    "no caption",
    "no concept",
    "tiny",
    "small",
    "copy",
    "transparent",
    "mask",
    "caption from elsewhere",
    "generation data",
    REGULARIZATION,
    VALIDATION,
)
"""What may be special about an image."""


@dataclass(frozen=True)
class ImageCard:
    """An image and what is known about it.

    Attributes:
        image: the image.
        names: concepts that its caption may mention, and those that always apply.
        tags: different tags of its caption, normalized for comparison.
        marks: those of :data:`MARKS` that apply to it.
    """

    image: DatasetImage
    names: tuple[str, ...]
    tags: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True)
class ImageSearch:
    """Which images to find; empty fields find all.

    Attributes:
        mark: one of :data:`MARKS`.
        concept: name of a concept.
        tag: a whole tag, however it is written.
        text: part of the caption or of the file's name.
    """

    mark: str = ""
    concept: str = ""
    tag: str = ""
    text: str = ""


def cards_of(report: DatasetReport, config: TrainConfig) -> tuple[ImageCard, ...]:
    """A card for each image, in their order; no file is read.

    Args:
        report: contents of the folders.
        config: the settings that it was read with.

    Raises:
        ConfigError: the file of the templates cannot be used.
    """
    copies = {image.path for pair in report.copies for image in pair}
    return tuple(
        ImageCard(
            image,
            tuple(concept.name for concept in config.concepts if concept.name in names),
            plain_tags(image.caption or "", config),
            _marks(image, config, has_name=bool(names), is_copy=image.path in copies),
        )
        for image, names in zip(report.images, image_concepts(report.images, config), strict=True)
    )


def found_by(search: ImageSearch, cards: Sequence[ImageCard]) -> list[ImageCard]:
    """The cards that all fields of a search apply to, in their order."""
    tag = plain_words(search.tag)
    text = search.text.strip().casefold()
    return [
        card
        for card in cards
        if (not search.mark or search.mark in card.marks)
        and (not search.concept or search.concept in card.names)
        and (not tag or tag in card.tags)
        and (not text or text in f"{card.image.caption or ''}\n{card.image.shown}".casefold())
    ]


def tag_counts(cards: Sequence[ImageCard]) -> list[tuple[str, int]]:
    """The tags in the captions of images with the number of images, most frequent first."""
    counts = Counter(tag for card in cards for tag in card.tags)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _marks(image: DatasetImage, config: TrainConfig, *, has_name: bool, is_copy: bool) -> tuple[str, ...]:
    is_tiny = 0 < min(image.width, image.height) < MIN_SIDE
    holds = {
        "unusable": bool(image.flaws),
        "no caption": not image.caption,
        "no concept": not has_name and image.subset.kind != REGULARIZATION,
        "tiny": is_tiny,
        "small": not is_tiny and 0 < image.width * image.height * 4 < config.resolution**2,
        "copy": is_copy,
        "transparent": image.transparency > 0,
        "mask": image.mask is not None,
        "caption from elsewhere": bool(image.source) and not has_own_file(image),
        "generation data": image.is_cut,
        REGULARIZATION: image.subset.kind == REGULARIZATION,
        VALIDATION: image.subset.kind == VALIDATION,
    }
    return tuple(mark for mark in MARKS if holds[mark])
