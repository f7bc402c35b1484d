"""Groups the images of a character by what it wears and how its hair is, to find its looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lib_pivotal.core.core_tags.tag_classes import TagClasses
from lib_pivotal.core.core_tags.tagged_image import TaggedImage

__all__ = ["Look", "find_looks"]

_MIN_IMAGES = 5
"""Smaller groups are not offered."""
_MIN_SIMILARITY = 0.4
"""Groups are joined while the mean Jaccard similarity between their images is at least this."""
_MIN_SHARE = 0.6
"""A look is described by the tags that at least this share of its images has."""
_MAX_SETS = 120
"""Different sets of tags that are compared, the most frequent ones; the work grows with their third power."""


@dataclass(frozen=True)
class Look:
    """Images of a character that look alike.

    Attributes:
        images: the images.
        tags: what sets them apart from its other images, most frequent first.
    """

    images: tuple[TaggedImage, ...]
    tags: tuple[str, ...]


def find_looks(images: Sequence[TaggedImage], classes: TagClasses) -> list[Look]:
    """The looks of a character, largest first; none unless there are at least two.

    Args:
        images: of the character alone.
        classes: say which tags belong to looks.
    """
    by_tags: dict[frozenset[str], list[TaggedImage]] = {}
    for image in images:
        tags = frozenset(plain for plain, written in image.tags.items() if classes.of(written).look)
        if tags:
            by_tags.setdefault(tags, []).append(image)
    frequent = sorted(by_tags, key=lambda tags: (-len(by_tags[tags]), sorted(tags)))[:_MAX_SETS]
    groups = _joined(frequent, [len(by_tags[tags]) for tags in frequent])
    members = [[image for index in group for image in by_tags[frequent[index]]] for group in groups]
    order = {id(image): number for number, image in enumerate(images)}
    large = [sorted(group, key=lambda image: order[id(image)]) for group in members if len(group) >= _MIN_IMAGES]
    large.sort(key=lambda group: (-len(group), order[id(group[0])]))
    if len(large) < 2:
        return []
    return [Look(tuple(group), _apart(group, large, classes)) for group in large]


def _joined(sets: Sequence[frozenset[str]], weights: Sequence[int]) -> list[list[int]]:
    """Groups of indices by average linkage: the two most similar groups are joined until none are similar."""
    groups = {index: [index] for index in range(len(sets))}
    sizes = dict(enumerate(weights))
    similar = {(a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for b in range(len(sets)) for a in range(b)}
    while similar:
        (a, b), best = min(similar.items(), key=lambda item: (-item[1], item[0]))
        if best < _MIN_SIMILARITY:
            break
        for other in groups.keys() - {a, b}:
            to_a, to_b = (min(a, other), max(a, other)), (min(b, other), max(b, other))
            total = similar[to_a] * sizes[a] + similar.pop(to_b) * sizes[b]
            similar[to_a] = total / (sizes[a] + sizes[b])
        del similar[(a, b)]
        groups[a] += groups.pop(b)
        sizes[a] += sizes.pop(b)
    return list(groups.values())


def _apart(group: Sequence[TaggedImage], groups: Sequence[list[TaggedImage]], classes: TagClasses) -> tuple[str, ...]:
    """Tags of looks that are frequent in a group and not in all groups."""
    shares = [_shares(other, classes) for other in groups]
    own = _shares(group, classes)
    found = [
        tag for tag, share in own.items()
        if share >= _MIN_SHARE and not all(other.get(tag, 0.0) >= _MIN_SHARE for other in shares)
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda tag: (-own[tag], tag)))


def _shares(images: Sequence[TaggedImage], classes: TagClasses) -> dict[str, float]:
    counts = Counter(plain for image in images for plain, written in image.tags.items() if classes.of(written).look)
    return {tag: count / len(images) for tag, count in counts.items()}
