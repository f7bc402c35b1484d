"""What Check says about core tags."""

from __future__ import annotations

from collections.abc import Sequence

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.core_tags.pruning import pruner_of, prunes
from lib_pivotal.core.core_tags.tagged_image import TaggedImage, plain_tag, tagged_images
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.shown import listed
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = ["core_tag_problems"]

_MAX_REMOVED = 0.6
"""Captions that lose a larger share of their tags say too little about the rest of the image."""


def core_tag_problems(config: TrainConfig, images: Sequence[DatasetImage]) -> list[Problem]:
    """Find core tags that do nothing or take too much away.

    Args:
        config: its concepts are used.
        images: usable images of the data set.
    """
    problems = _unusable(config)
    if not prunes(config):
        return problems
    tagged = tagged_images(images, config)
    return problems + _absent(config, tagged) + _too_much(config, tagged)


def _unusable(config: TrainConfig) -> list[Problem]:
    names = {plain_tag(word) for concept in config.concepts for word in (concept.name, *concept.aliases)}
    problems = []
    for index, concept in enumerate(config.concepts):
        for tag in concept.core_tags:
            field, plain = f"concepts[{index}].core_tags", plain_tag(tag)
            if not plain or "," in plain:
                problems.append(Problem(field, "error", f"{shown(tag)} is not a tag.", "Give each tag an item."))
            elif plain in names:
                text = f"{printable(tag)} stands for a concept, and names are never left out."
                problems.append(Problem(field, "error", text, "Remove it from the core tags."))
    return problems


def _absent(config: TrainConfig, images: Sequence[TaggedImage]) -> list[Problem]:
    problems = []
    for index, concept in enumerate(config.concepts):
        there = {tag for image in images if concept.name in image.names for tag in image.tags}
        absent = [printable(tag) for tag in concept.core_tags if plain_tag(tag) not in there]
        if absent:
            text = f"No caption that mentions {printable(concept.name)} has: {listed(absent)}."
            hint = "Core tags are whole tags between commas; check their spelling."
            problems.append(Problem(f"concepts[{index}].core_tags", "warning", text, hint))
    return problems


def _too_much(config: TrainConfig, tagged: Sequence[TaggedImage]) -> list[Problem]:
    pruner = pruner_of(config, tagged)
    bare, short = [], []
    for image in tagged:
        removed = sum(pruner.removes(tag, image.names, image.people) for tag in image.tags)
        if removed and removed == len(image.tags) and not image.is_prose:
            bare.append(image.shown)
        elif removed > _MAX_REMOVED * len(image.tags):
            short.append(image.shown)
    hint = "Add tags of what varies, such as background and pose, or remove core tags."
    problems = []
    if bare:
        text = f"Without core tags, only names are left in {len(bare)} captions: {listed(bare)}."
        problems.append(Problem("prune_core_tags", "warning", text, hint))
    if short:
        text = f"Without core tags, {len(short)} captions lose more than 60 % of their tags: {listed(short)}."
        problems.append(Problem("prune_core_tags", "warning", text, hint))
    return problems
