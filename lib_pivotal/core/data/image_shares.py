"""How often each image of a data set is used, so that concepts with few images are not drowned out by the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import TRAIN
from lib_pivotal.core.data.folder_captions import image_concepts
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["ImageShares", "share_images"]

_Names = frozenset[str]

_MAX_ROUNDS = 100
_SETTLED = 1e-4
_DIGITS = 6
"""Significant digits of the factors. Rounded, they are the same on every computer, and 1 is exactly 1."""


@dataclass(frozen=True)
class ImageShares:
    """Which concepts the images of a data set show, and how often each image is used.

    Attributes:
        concepts: per image, the names of the concepts that it shows; empty if it is not trained.
        weights: per image, how often it is used, relative to the others, > 0.
        is_trained: per image, whether it is trained, not a regularization or validation image.
    """

    concepts: tuple[_Names, ...]
    weights: tuple[float, ...]
    is_trained: tuple[bool, ...]

    @property
    def image_count(self) -> int:
        """Number of images that are trained."""
        return sum(self.is_trained)

    def counts(self) -> Counter[str]:
        """Concept → number of images that show it."""
        return Counter(name for names in self.concepts for name in names)


def share_images(images: Sequence[DatasetImage], config: TrainConfig, *, balances: bool = True) -> ImageShares:
    """Decide how often each image is used.

    Args:
        images: the usable images.
        config: its concepts and the settings of the balance are used.
        balances: whether to balance the concepts; otherwise, only the repeats of the images count.
    """
    is_trained = tuple(image.subset.kind == TRAIN for image in images)
    concepts = tuple(_concepts(images, config, is_trained))
    repeats = [image.repeats for image in images]
    factors = _factors(concepts, repeats, config) if balances else {}
    weights = [count * factors.get(names, 1.0) for names, count in zip(concepts, repeats, strict=True)]
    return ImageShares(concepts, tuple(weights), is_trained)


def _concepts(images: Sequence[DatasetImage], config: TrainConfig, is_trained: Sequence[bool]) -> list[_Names]:
    found = image_concepts(images, config)
    return [frozenset(names if trained else ()) for names, trained in zip(found, is_trained, strict=True)]


class _Group:
    """The images that show the same concepts: their number and the sum of their repeats."""

    def __init__(self, names: _Names) -> None:
        # Sorted, so that results do not depend on the order of a set.
        self.names = sorted(names)
        self.images = 0
        self.repeats = 0.0


def _factors(concepts: Sequence[_Names], repeats: Sequence[float], config: TrainConfig) -> Mapping[_Names, float]:
    """What multiplies the repeats of the images that show the same concepts; images without a concept keep theirs.

    Each round multiplies an image's factor by what the concepts in it lack, wanted ÷ current share. The root makes
    that less for all where images show several concepts, so that the rounds settle.
    """
    groups: dict[_Names, _Group] = {}
    for names, count in zip(concepts, repeats, strict=True):
        if names:
            group = groups.setdefault(names, _Group(names))
            group.images += 1
            group.repeats += count
    sizes = _sizes(groups, dict.fromkeys(groups, 1.0))
    if len(sizes) < 2:
        return {}
    user_weights = {concept.name: concept.weight for concept in config.concepts}
    wanted = _shares({name: user_weights[name] * size ** (1 - config.balance) for name, size in sizes.items()})
    root = 1 / max(len(names) for names in groups)
    factors = dict.fromkeys(groups, 1.0)
    for _ in range(_MAX_ROUNDS):
        before, current = factors, _shares(_sizes(groups, factors))
        lacking = {name: (wanted[name] / current[name]) ** root for name in wanted}
        factors = {
            names: before[names] * math.prod([lacking[name] for name in group.names]) for names, group in groups.items()
        }
        factors = _limited(groups, factors, config.balance_cap)
        if all(abs(factors[names] - before[names]) <= _SETTLED * before[names] for names in groups):
            break
    return {names: float(f"{factor:.{_DIGITS}g}") for names, factor in factors.items()}


def _sizes(groups: Mapping[_Names, _Group], factors: Mapping[_Names, float]) -> dict[str, float]:
    """Concept → sum of the weights of the images that show it."""
    sizes: dict[str, float] = {}
    for names, group in groups.items():
        for name in group.names:
            sizes[name] = sizes.get(name, 0.0) + group.repeats * factors[names]
    return sizes


def _shares(sizes: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(sizes.values())
    return {name: size / total for name, size in sizes.items()}


def _limited(groups: Mapping[_Names, _Group], factors: Mapping[_Names, float], cap: float) -> dict[_Names, float]:
    """The factors within ``cap`` of their geometric mean, scaled so that the sum of all weights stays the same."""
    image_count = sum(group.images for group in groups.values())
    logs = math.fsum(group.images * math.log(factors[names]) for names, group in groups.items())
    middle = math.exp(logs / image_count)
    limited = {names: min(max(factor, middle / cap), middle * cap) for names, factor in factors.items()}
    before = math.fsum(group.repeats for group in groups.values())
    after = math.fsum(group.repeats * limited[names] for names, group in groups.items())
    return {names: factor * before / after for names, factor in limited.items()}
