"""Chooses the images that are measured instead of trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import TRAIN, VALIDATION
from lib_pivotal.core.data.alike import groups_of
from lib_pivotal.core.data.caption import CaptionMaker
from lib_pivotal.core.data.kinds import images_of_kind
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["MAX_MEASURED", "hold_out", "images_to_measure"]

MAX_MEASURED = 32
"""Maximum number of images that are measured; more would make a measurement slow and hardly more precise."""

_MIN_IMAGES = 8
"""Concepts with fewer images need all of them for training."""

_Copies = Sequence[tuple[DatasetImage, DatasetImage]]


def hold_out(images: Sequence[DatasetImage], copies: _Copies, config: TrainConfig) -> tuple[DatasetImage, ...]:
    """Turn the validation share of the training images into validation images.

    Images that belong together stay together. Of each concept with 8 or more images, the groups with the lowest hashes
    are held out, at least one, so that a new image moves at most one of those that were there before; concepts with
    fewer images keep all of theirs. If no concept has that many, one group is held out.

    Args:
        images: images of the data set.
        copies: pairs of images with the same pixels.
        config: the share and the concepts are used.

    Returns:
        All images in the same order.
    """
    if not config.validation_share:
        return tuple(images)
    chosen = [index for index, image in enumerate(images) if image.subset.kind == TRAIN and not image.flaws]
    candidates = [images[index] for index in chosen]
    held_out = {chosen[member] for group in _held_out(candidates, copies, config) for member in group}
    return tuple(
        replace(image, subset=replace(image.subset, kind=VALIDATION)) if index in held_out else image
        for index, image in enumerate(images)
    )


def _held_out(images: Sequence[DatasetImage], copies: _Copies, config: TrainConfig) -> list[list[int]]:
    concepts = _concepts(images, config)
    groups = groups_of(images, copies)
    groups.sort(key=lambda group: min(images[member].sha256 for member in group))
    owners = [set().union(*(concepts[member] for member in group)) for group in groups]
    counts = Counter(name for names in concepts for name in names)
    held_out: dict[int, list[int]] = {}
    for name, count in sorted(counts.items()):
        own = [number for number, names in enumerate(owners) if name in names]
        # Without a large group, most images would be gone.
        free = [
            number
            for number in own
            if len(groups[number]) * 3 <= count and all(counts[other] >= _MIN_IMAGES for other in owners[number])
        ]
        # One more image never makes more than one more group, also where a concept begins to have enough.
        wanted = max(1, min(int(config.validation_share * len(own) + 0.5), len(own) - _MIN_IMAGES + 1))
        held_out.update({number: groups[number] for number in free[:wanted]})
    if not held_out:
        return [group for group in groups if 2 * len(group) <= len(images)][:1]
    return list(held_out.values())


def _concepts(images: Sequence[DatasetImage], config: TrainConfig) -> list[set[str]]:
    """Names of the concepts that each image shows; one empty name where there are none."""
    maker = CaptionMaker([concept for concept in config.concepts if concept.name.strip()], config)
    return [maker.concepts_in(image.caption or "") or {""} for image in images]


def images_to_measure(images: Sequence[DatasetImage], copies: _Copies, config: TrainConfig) -> list[DatasetImage]:
    """The validation images that are measured, at most :data:`MAX_MEASURED` of them, in their order.

    Copies of images that are trained are left out, and images without a concept unless none has one. If there are too
    many, those with the lowest hashes are measured, equally many of each concept.

    Args:
        images: usable images of the data set.
        copies: pairs of images with the same pixels.
        config: the concepts are used.
    """
    if not images_of_kind(images, VALIDATION):
        return []
    found = []
    for group in groups_of(images, copies, by_name=False):
        members = [images[index] for index in group]
        if all(image.subset.kind == VALIDATION for image in members):
            found.append(members[0])
    concepts = _concepts(found, config)
    has_names = any(names != {""} for names in concepts)
    pairs = [pair for pair in zip(found, concepts, strict=True) if not has_names or pair[1] != {""}]
    pairs.sort(key=lambda pair: pair[0].sha256)
    seen: Counter[str] = Counter()
    ranked = []
    for image, names in pairs:
        ranked.append((min(seen[name] for name in names), image.sha256, image))
        seen.update(names)
    ranked.sort(key=lambda item: item[:2])
    chosen = {id(image) for _, _, image in ranked[:MAX_MEASURED]}
    return [image for image in images if id(image) in chosen]
