"""The engine as the session calls it; imported late, so that the application starts without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lib_pivotal.app.ports import Borrowed
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import ProgressSink
from lib_pivotal.core.train.run_folder import Folders

__all__ = ["Engine", "run_engine"]


class Engine(Protocol):
    """What the session calls inside the borrowed model; tests put their own in its place."""

    def __call__(
        self,
        config: TrainConfig,
        lent: Borrowed,
        sinks: Sequence[ProgressSink],
        control: Control,
        folders: Folders,
        taken_names: Mapping[str, str],
    ) -> None:
        """Train and write; the last event tells how it ended.

        Raises:
            PivotalError: with words for the user.
        """
        ...


def run_engine(
    config: TrainConfig,
    lent: Borrowed,
    sinks: Sequence[ProgressSink],
    control: Control,
    folders: Folders,
    taken_names: Mapping[str, str],
) -> None:
    """The real engine, ``core.train.run.train``."""
    from lib_pivotal.core.train.run import train

    train(config, lent.model, lent.sampler, sinks, control, folders, taken_names=taken_names)
