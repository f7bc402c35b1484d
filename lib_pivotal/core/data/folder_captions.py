"""The captions of a data set: each of its folders has settings of its own."""

from __future__ import annotations

from collections.abc import Sequence

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.caption import CaptionMaker, Prune
from lib_pivotal.core.data.caption_choices import lines_of
from lib_pivotal.core.data.caption_names import NameFinder
from lib_pivotal.core.data.caption_tags import is_emoticon, tags_of
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["caption_makers", "image_concepts", "mostly_underscores"]


def caption_makers(
    images: Sequence[DatasetImage], config: TrainConfig, prune: Prune | None = None
) -> dict[Subset, CaptionMaker]:
    """What makes the captions of each folder.

    Args:
        images: of the data set.
        config: its concepts and settings of captions are used.
        prune: see :class:`CaptionMaker`.

    Raises:
        ConfigError: the file of the templates cannot be used.
    """
    concepts = [concept for concept in config.concepts if concept.name.strip()]
    finder = NameFinder(concepts)
    captions: dict[Subset, list[str]] = {}
    for image in images:
        captions.setdefault(image.subset, []).append(image.caption or "")
    return {
        subset: CaptionMaker(
            concepts,
            config,
            subset,
            spaces=config.underscores == "auto" and mostly_underscores(texts, finder),
            prune=prune,
        )
        for subset, texts in captions.items()
    }


def image_concepts(images: Sequence[DatasetImage], config: TrainConfig) -> list[set[str]]:
    """The concepts that the caption of each image may mention, and those that always apply to its folder.

    Args:
        images: of the data set.
        config: its concepts and settings of captions are used.

    Raises:
        ConfigError: the file of the templates cannot be used.
    """
    makers = caption_makers(images, config)
    # Other words may always apply, too.
    known = {concept.name for concept in config.concepts}
    return [known & makers[image.subset].concepts_in(image.caption or "") for image in images]


def mostly_underscores(captions: Sequence[str], finder: NameFinder) -> bool:
    """Whether more than half of the tags have underscores, apart from those in names and emoticons.

    Args:
        captions: of one folder.
        finder: finds the names.
    """
    count = with_underscores = 0
    for caption in captions:
        for tag in (tag for line in lines_of(caption) for tag in tags_of(line)):
            count += 1
            if "_" in tag and not is_emoticon(tag):
                with_underscores += "_" in finder.names.sub("", tag)
    return 2 * with_underscores > count
