"""After which steps a run keeps a bundle in its own folder, so that the best step can be chosen when it has ended.

Does not import torch, because the application starts without it.
"""

from __future__ import annotations

import math

from lib_pivotal.core.config.schema import TrainConfig

__all__ = ["kept_steps"]


def kept_steps(config: TrainConfig, total: int) -> list[int]:
    """The steps, ascending, without the last one, whose bundle is the result.

    They are spread evenly, each at the nearest step after which samples are made or the validation images are measured,
    because a choice needs something to look at; runs too short for that have fewer of them. Steps that are saved anyway
    are left out.

    Args:
        config: the settings.
        total: number of steps of the run.
    """
    count = min(config.step_bundles, total)
    if count < 2:
        return []
    apart = total / count
    looks = [every for every in (config.sample_every, config.validate_every) if 0 < every < total]
    # Best where both happen, unless that is too rare.
    candidates = [every for every in (math.lcm(*looks), *looks) if looks and every <= apart]
    grid = next(iter(candidates), min(looks, default=1))
    steps = {round(number * apart / grid) * grid for number in range(1, count)}
    return sorted(step for step in steps if 0 < step < total and not _is_saved_anyway(config, step))


def _is_saved_anyway(config: TrainConfig, step: int) -> bool:
    return config.save_every > 0 and step % config.save_every == 0
