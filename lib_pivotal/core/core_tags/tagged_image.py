"""What the caption of an image says: concepts, tags and the number of people."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.caption import CaptionMaker
from lib_pivotal.core.data.caption_names import is_sentence
from lib_pivotal.core.data.caption_tags import plain_words, without_emphasis
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["TaggedImage", "people_in", "plain_tag", "tagged_images"]

_MANY = 99
"""Stands for a number of people that the tags do not say."""
_COUNT = re.compile(r"(\d{1,3})\+?(?:girl|boy|other)s?")
_OF_PROSE = re.compile(r"\b(?:an?|the|is|are|was|were|has|have|his|her|their|who|which)\b", re.IGNORECASE)
"""Words that sentences have and tags do not."""
_CACHED = 20_000
"""Tags that are remembered, because the same ones are in many captions."""
_LABEL_WORDS = 2
"""A caption of a single part is a tag up to this many words."""


@dataclass(frozen=True)
class TaggedImage:
    """What the caption of an image says.

    Attributes:
        shown: the image, for messages.
        caption: the caption as it is in the file.
        names: concepts that it mentions.
        tags: plain tag → the tag as it is written, in order; without names and sentences.
        people: number of people that its tags count; None if they do not.
        is_prose: whether it is written in sentences.
    """

    shown: str
    caption: str
    names: frozenset[str]
    tags: dict[str, str]
    people: int | None
    is_prose: bool


def tagged_images(images: Iterable[DatasetImage], config: TrainConfig) -> list[TaggedImage]:
    """What the captions of the images say; images without a caption are left out.

    Args:
        images: of the data set.
        config: its concepts and separators are used.
    """
    maker = CaptionMaker(config.concepts, config)
    names = {plain_words(word) for concept in config.concepts for word in (concept.name, *concept.aliases)}
    marks = [",", "\n", *(mark for mark in (config.keep_separator, config.group_separator) if mark)]
    split = re.compile("|".join(map(re.escape, marks)))
    known = {concept.name for concept in config.concepts}
    return [
        _tagged(image, maker.concepts_in(image.caption) | (known & set(image.subset.always)), names, split)
        for image in images
        if image.caption
    ]


def _tagged(image: DatasetImage, mentioned: set[str], names: set[str], split: re.Pattern[str]) -> TaggedImage:
    caption = image.caption or ""
    parts = [part for piece in split.split(caption) if (part := piece.strip())]
    tags: dict[str, str] = {}
    prose = total = 0
    for part in parts:
        plain, words, is_prose = _read(part)
        total += words
        if plain in names:
            continue
        if is_prose or (len(parts) == 1 and words > _LABEL_WORDS):
            prose += words
        else:
            tags.setdefault(plain, part)
    tags.pop("", None)
    return TaggedImage(image.shown, caption, frozenset(mentioned), tags, people_in(tags), 2 * prose >= total > 0)


@functools.lru_cache(maxsize=_CACHED)
def _read(part: str) -> tuple[str, int, bool]:
    """A part of a caption as a plain tag, its number of words, and whether it reads like prose."""
    return plain_tag(part), len(part.split()), is_sentence(part) or _OF_PROSE.search(part) is not None


@functools.lru_cache(maxsize=_CACHED)
def plain_tag(tag: str) -> str:
    """A tag for comparison: see :func:`lib_pivotal.core.data.caption_tags.plain_words`, without emphasis around it."""
    inner = tag.strip()
    for before, inside, after in without_emphasis(inner):
        # Brackets that are not balanced belong to several tags, as in ((red hair, blue eyes)).
        if len(before) != sum(after.count(bracket) for bracket in ")]}"):
            break
        inner = inside
    return plain_words(inner)


def people_in(tags: Sequence[str] | dict[str, str]) -> int | None:
    """Number of people that tags such as ``2girls`` and ``solo`` count; None if there are none.

    Args:
        tags: plain tags.
    """
    counts = [int(match[1]) for tag in tags if (match := _COUNT.fullmatch(tag))]
    if counts:
        return sum(counts)
    if "solo" in tags:
        return 1
    if "no humans" in tags:
        return 0
    return _MANY if any(tag in tags for tag in ("multiple girls", "multiple boys", "multiple others")) else None
