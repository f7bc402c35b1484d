"""How many steps a run has."""

from __future__ import annotations

from lib_pivotal.core.config.schema import TrainConfig

__all__ = ["total_steps"]


def total_steps(config: TrainConfig, image_count: int) -> int:
    """The number of steps from the settings, or 20 per image within 600 … 1500."""
    return config.steps or max(600, min(1500, 20 * image_count))
