"""Suggestions of core tags as plain values, for commands, HTTP and the tab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.core_tags.cleaning import CaptionCleaner
from lib_pivotal.core.core_tags.pruning import pruner_of, prunes
from lib_pivotal.core.core_tags.suggestion import ConceptTags, Suggestions, apply
from lib_pivotal.core.core_tags.tagged_image import tagged_images
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["as_plain"]

_EXAMPLES = 8
"""Number of captions that are shown before and after."""
_LISTED = 5
"""Number of images that are named for each look."""


def as_plain(
    suggestions: Suggestions,
    config: TrainConfig,
    images: Sequence[DatasetImage],
    *,
    is_chosen: bool = False,
) -> dict[str, Any]:
    """Suggestions as values for JSON, with captions before and after.

    Args:
        suggestions: see :func:`lib_pivotal.core.core_tags.suggestion.suggest`.
        config: the settings that they were made for.
        images: usable images of the data set.
        is_chosen: whether the captions show the core tags of the settings, even if there are none, and not the
            suggested ones.
    """
    return {
        "reason": suggestions.reason,
        "captions": suggestions.captions,
        "prose": suggestions.prose,
        "concepts": [_concept(item) for item in suggestions.concepts],
        "examples": _examples(config if is_chosen else apply(config, suggestions), images),
    }


def _concept(item: ConceptTags) -> dict[str, Any]:
    return {
        "name": item.name,
        "images": item.images,
        "alone": item.alone,
        "core_tags": list(item.ticked),
        "init_text": item.init_text,
        "tags": [asdict(row) for row in item.rows],
        "looks": [
            {
                "name": f"{item.name}_form{number}",
                "tags": list(look.tags),
                "count": len(look.images),
                "images": [image.shown for image in look.images[:_LISTED]],
            }
            for number, look in enumerate(item.looks, start=1)
        ],
        "hints": list(item.hints),
    }


def _examples(config: TrainConfig, images: Sequence[DatasetImage]) -> list[dict[str, str]]:
    """Captions that core tags change, from all over the data set."""
    if not prunes(config):
        return []
    tagged = tagged_images(images, config)
    cleaner = CaptionCleaner(config, pruner_of(config, tagged))
    changed = [
        {"image": image.shown, "before": image.caption, "after": after}
        for image in tagged
        if (after := cleaner.clean(image)) != image.caption
    ]
    return changed[:: max(1, len(changed) // _EXAMPLES)][:_EXAMPLES]
