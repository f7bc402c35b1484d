"""How many steps a run has."""

from __future__ import annotations

import math

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.image_shares import ImageShares
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.train.resumed import Resumed

__all__ = ["samples_per_concept", "samples_per_step", "samples_to_take", "total_steps"]

_MIN_VIEWS, _MAX_VIEWS = 20, 200
"""How often each image of a concept is to be seen: fewer leave a large set half-learned, more memorize a small one."""
_MIN_STEPS, _MAX_STEPS = 300, 100_000
"""Adam needs some steps, however large they are; the upper limit is that of the setting."""


def total_steps(
    config: TrainConfig, shares: ImageShares, family: str, *, processes: int = 1, resumed: Resumed | None = None
) -> int:
    """The number of steps from the settings or, if that is 0, from the concepts and their images.

    Each concept gets the samples that models of the family need, within limits per image; images that show several
    concepts count for all of them.

    Args:
        config: the settings.
        shares: which image shows which concepts, and how often it is used.
        family: see ``core.families``; empty if it is not known, which assumes the family that needs the most.
        processes: number of processes that train together.
        resumed: what a resumed run keeps from its start; None for a new run.
    """
    if config.steps:
        return config.steps
    if resumed is not None:
        return resumed.steps or _steps_of_earlier_releases(shares.image_count)
    steps = math.ceil(_samples(config, shares, family) / samples_per_step(config, processes))
    return max(_MIN_STEPS, min(_MAX_STEPS, steps))


def samples_to_take(config: TrainConfig, processes: int, resumed: Resumed | None) -> int:
    """Samples of a step in all processes together; a resumed run keeps them, whatever the number of processes is now.

    Args:
        config: the settings.
        processes: number of processes that train together.
        resumed: what a resumed run keeps from its start; None for a new run.

    Raises:
        ConfigError: they cannot be divided equally among the processes.
    """
    kept = resumed.samples_per_step if resumed is not None else 0
    if kept % processes:
        text = f"A step of this run has {kept} samples, which cannot be divided equally among {processes} processes."
        choices = ", ".join(str(count) for count in range(1, kept + 1) if kept % count == 0)
        raise ConfigError([Problem("processes", "error", text, f"Start one of these numbers of processes: {choices}.")])
    return kept or samples_per_step(config, processes)


def samples_per_step(config: TrainConfig, processes: int = 1) -> int:
    """Number of samples per optimizer step, over all batches and processes; at least 1 even for invalid settings."""
    return max(1, config.batch_size * config.accumulation * processes)


def samples_per_concept(family: str) -> int:
    """Number of samples from which models of a family learn a concept; the largest for an empty name."""
    return max(item.samples_per_concept for name, item in FAMILIES.items() if family in ("", name))


def _samples(config: TrainConfig, shares: ImageShares, family: str) -> float:
    wanted, counts = samples_per_concept(family), shares.counts()
    if not counts:
        return _within_views(wanted, shares.image_count)
    shown = [(weight, len(names)) for weight, names in zip(shares.weights, shares.concepts, strict=True) if names]
    concepts_per_sample = sum(weight * count for weight, count in shown) / sum(weight for weight, _ in shown)
    kinds = {concept.name: concept for concept in config.concepts}
    total = sum(_within_views(wanted * (2 if _is_style(kinds[name]) else 1), count) for name, count in counts.items())
    return total / concepts_per_sample


def _within_views(samples: int, image_count: int) -> int:
    return max(_MIN_VIEWS * image_count, min(_MAX_VIEWS * image_count, samples))


def _is_style(concept: Concept) -> bool:
    """Whether the class of the concept says that it is a style, which takes longer to learn than a subject."""
    return concept.class_noun.lower().split()[-1:] == ["style"]


def _steps_of_earlier_releases(image_count: int) -> int:
    """The rule of the releases whose states do not contain the number of steps."""
    return max(600, min(1500, 20 * image_count))
