"""One look at the images of a data set: what was found, as plain values for the page."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lib_pivotal.app.ports import AppHost
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.bucket import bucket_for, crop
from lib_pivotal.core.data.caption_edits import EditPlan, caption_in_file, has_own_file
from lib_pivotal.core.data.dataset_report import DatasetReport, read_dataset
from lib_pivotal.core.data.findings import dataset_problems
from lib_pivotal.core.data.flaw import UnusableCaption
from lib_pivotal.core.data.image_cards import MARKS, ImageCard, ImageSearch, cards_of, found_by, tag_counts
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.thumbnail import Thumbnails, mask_overlay, small_copy
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.train.caption_preview import CaptionPreview

__all__ = ["CARDS_PER_PAGE", "DRAWS", "ImageLook"]

CARDS_PER_PAGE = 60
DRAWS = 12
"""How many captions as trained are shown of an image."""
_LISTED_TAGS = 300
_LARGE_SIDE = 512


class ImageLook:
    """The images of a data set as they were when they were last read.

    Args:
        config: the settings.
        host: where the cache and the tokenizer are.
        thumbnails: makes small copies.

    Raises:
        ConfigError: the file of the templates cannot be used.
    """

    def __init__(self, config: TrainConfig, host: AppHost, thumbnails: Thumbnails) -> None:
        self.id = secrets.token_hex(8)
        self.config = config
        self._host = host
        self._thumbnails = thumbnails
        self.plan: tuple[str, EditPlan] | None = None
        """Edits that were shown and can be applied, with their id."""
        self.report: DatasetReport
        self.seen: DatasetReport
        """What was on disk when the user was last shown what has changed, with the edits that were made here."""
        self._cards: tuple[ImageCard, ...]
        self.read()
        self.seen = self.report

    def read(self) -> None:
        """Read the folders again; unchanged images are not decoded."""
        self.plan = None
        self.report = read_dataset(self.config, cache=self._host.data_root() / "cache")
        self._cards = cards_of(self.report, self.config)
        self.__dict__.pop("_preview", None)

    def read_after_edit(self, files: Collection[Path]) -> None:
        """Read the folders again after caption files were written here.

        Args:
            files: the caption files.
        """
        before = self.report
        self.read()
        written = {file.absolute() for file in files}
        own = {
            image.path
            for image in (*before.images, *self.report.images)
            if image.caption_file is not None and image.caption_file.absolute() in written
        }
        now = {image.path: image for image in self.report.images if image.path in own}
        self.seen = replace(self.seen, images=tuple(now.get(image.path, image) for image in self.seen.images))

    def problems(self) -> list[Problem]:
        """All problems of the data set."""
        return dataset_problems(self.report, self.config, self._host.tokenizer())

    def found(self, search: ImageSearch) -> list[DatasetImage]:
        """The images that a search finds."""
        return [card.image for card in found_by(search, self._cards)]

    def image(self, shown: str) -> DatasetImage:
        """The image of this name.

        Raises:
            ConfigError: there is none.
        """
        return self._card(shown).image

    def page(self, search: ImageSearch, number: int) -> dict[str, Any]:
        """One page of the images that a search finds.

        Args:
            search: which images.
            number: of the page, from 1; too large ones show the last page.
        """
        found = found_by(search, self._cards)
        pages = max(1, -(-len(found) // CARDS_PER_PAGE))
        number = min(max(number, 1), pages)
        cards = found[(number - 1) * CARDS_PER_PAGE : number * CARDS_PER_PAGE]
        thumbnails = self._thumbnails.of([card.image for card in cards])
        tags = tag_counts(found)
        return {
            "number": number,
            "pages": pages,
            "found": len(found),
            "total": len(self._cards),
            "cards": [self._shown(card, data) for card, data in zip(cards, thumbnails, strict=True)],
            "tags": tags[:_LISTED_TAGS],
            "more_tags": max(0, len(tags) - _LISTED_TAGS),
            "concepts": [(concept.name, self._count(concept=concept.name)) for concept in self.config.concepts],
            "marks": [(mark, count) for mark in MARKS if (count := self._count(mark=mark))],
        }

    def details(self, shown: str) -> dict[str, Any]:
        """Everything about one image, with captions as they are trained.

        Raises:
            ConfigError: there is no such image.
        """
        card = self._card(shown)
        image = card.image
        large = small_copy(image.path, _LARGE_SIDE, self.config.background) if image.sha256 else b""
        try:
            caption, encoding = caption_in_file(image, self.config.caption_encoding)
        except UnusableCaption:
            caption, encoding = "", ""
        try:
            draws, reason = self._preview.marked(shown, DRAWS), ""
        except ConfigError as error:
            draws, reason = [], " ".join(f"{problem.message} {problem.hint}" for problem in error.problems)
        return {
            **self._shown(card, large),
            "caption": caption,
            "encoding": encoding,
            "source": image.source,
            "is_editable": has_own_file(image) or not image.source,
            "flaws": [f"{flaw.reason}. {flaw.hint}" for flaw in image.flaws],
            "overlay": _data_uri(mask_overlay(image.mask), "png") if image.mask is not None else "",
            "draws": draws,
            "no_draws": reason,
        }

    @cached_property
    def _preview(self) -> CaptionPreview:
        host = self._host
        return CaptionPreview(self.report, self.config, host.tokenizer(), family=host.family(self.config))

    def _card(self, shown: str) -> ImageCard:
        found = next((card for card in self._cards if card.image.shown == shown), None)
        if found is None:
            text = f"There is no image {shown!r} any more."
            raise ConfigError([Problem("image", "error", text, "Look at the images again.")])
        return found

    def _count(self, **fields: str) -> int:
        return len(found_by(ImageSearch(**fields), self._cards))

    def _shown(self, card: ImageCard, data: bytes) -> dict[str, Any]:
        image = card.image
        bucket = bucket_for(image.width, image.height, self.config.resolution) if image.width else None
        return {
            "name": image.shown,
            "thumbnail": _data_uri(data, "jpeg") if data else "",
            "names": list(card.names),
            "tags": len(card.tags),
            "repeats": image.repeats,
            "loss_weight": image.subset.loss_weight,
            "marks": list(card.marks),
            "size": [image.width, image.height],
            "bucket": list(bucket) if bucket else None,
            "frame": _frame(image, bucket) if bucket else None,
        }


def _frame(image: DatasetImage, bucket: tuple[int, int]) -> Sequence[float]:
    """Left, top, width and height of what is trained, in percent of the image."""
    cut = crop(image.width, image.height, bucket)
    return (
        100 * cut.left / cut.width,
        100 * cut.top / cut.height,
        100 * bucket[0] / cut.width,
        100 * bucket[1] / cut.height,
    )


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
