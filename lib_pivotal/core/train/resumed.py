"""What a run decides when it starts and keeps when it is resumed, even by a later release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lib_pivotal.core.families import CHUNK_TOKENS

__all__ = ["Resumed", "resumed_problem", "with_later_settings"]

_MAX_STEPS = 10_000_000
"""No run is this long."""


@dataclass(frozen=True)
class Resumed:
    """What a resumed run keeps from its start.

    Attributes:
        steps: its number of steps; 0 if the state is from a release that did not store it.
        balances: whether it balances its concepts, as all runs have done since the states contain this.
        kept: names that it keeps without training them → number of vectors.
        samples_per_step: samples of a step in all processes together; 0 if the state is from a release that did not
            store it.
    """

    steps: int
    balances: bool
    kept: Mapping[str, int] = field(default_factory=dict)
    samples_per_step: int = 0

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Resumed:
        """From the facts of a state in which :func:`resumed_problem` finds nothing."""
        return cls(
            facts.get("steps", 0),
            facts.get("balances", False),
            facts.get("kept", {}),
            facts.get("samples_per_step", 0),
        )


def with_later_settings(values: Any) -> Any:
    """The settings of a run as its folder has them, with those added since so that it does what it did before.

    Args:
        values: as read from JSON; anything but an object is returned unchanged, for ``read_dict`` to report.
    """
    return {"step_bundles": 0, **values} if isinstance(values, Mapping) else values


def resumed_problem(facts: Mapping[str, Any]) -> str:
    """Why these facts of a state are invalid; empty if they are valid or missing."""
    steps, balances = facts.get("steps", 0), facts.get("balances", False)
    if type(steps) is not int or not 0 <= steps <= _MAX_STEPS:
        return "steps is not a number of steps in its header"
    samples = facts.get("samples_per_step", 0)
    if type(samples) is not int or not 0 <= samples <= _MAX_STEPS:
        return "samples_per_step is not a number of samples in its header"
    if not isinstance(balances, bool):
        return "balances has the wrong type in its header"
    kept = facts.get("kept", {})
    is_valid = isinstance(kept, dict) and all(
        type(count) is int and 0 < count < CHUNK_TOKENS for count in kept.values()
    )
    return "" if is_valid else "kept does not have numbers of vectors in its header"
