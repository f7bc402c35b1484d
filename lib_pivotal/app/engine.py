"""The engine as the session calls it; imported late, so that the application starts without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lib_pivotal.app.ports import Borrowed
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import ProgressSink
from lib_pivotal.core.train.checks import Checked

__all__ = ["Engine", "Places", "run_engine"]


@dataclass(frozen=True)
class Places:
    """Folders of a run: its own (exists), that of the bundles, and the cache shared by all runs."""

    run: Path
    bundles: Path
    cache: Path


class Engine(Protocol):
    """What the session calls inside the borrowed model; tests put their own in its place."""

    def __call__(
        self,
        config: TrainConfig,
        lent: Borrowed,
        sinks: Sequence[ProgressSink],
        control: Control,
        places: Places,
        taken_names: Mapping[str, str],
        checked: Checked,
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
    places: Places,
    taken_names: Mapping[str, str],
    checked: Checked,
) -> None:
    """The real engine, ``core.train.run.train``."""
    from lib_pivotal.core.train.run import Folders, train

    folders = Folders(run=places.run, bundles=places.bundles, cache=places.cache)
    train(config, lent.model, lent.sampler, sinks, control, folders, taken_names=taken_names, checked=checked)
