"""What session, tab and API need from a host, besides the model itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import DiffusionModel, ProgressSink, SampleMaker

__all__ = ["AppHost", "Borrowed"]


@dataclass(frozen=True)
class Borrowed:
    """What training gets for the length of a run."""

    model: DiffusionModel
    sampler: SampleMaker


class AppHost(Protocol):
    """A webui, seen by session, tab and API."""

    name: str
    """Host and version for people, e.g. ``A1111 1.10.1``."""

    def lora_folder(self) -> Path:
        """Where bundles go so that ``<lora:NAME:1>`` finds them."""
        ...

    def data_root(self) -> Path:
        """Our own folder for runs, presets and caches; exists or can be made."""
        ...

    def taken_names(self) -> dict[str, str]:
        """Names of installed embeddings, lower case → where each comes from (file name)."""
        ...

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        """Ids of a text under the loaded model's tokenizer, or None while no model is loaded."""
        ...

    def problems(self, config: TrainConfig) -> list[Problem]:
        """Why training cannot start on this host now (low memory modes, unknown checkpoint, …)."""
        ...

    def exclusive(self, task_id: str) -> AbstractContextManager[ProgressSink]:
        """Wait in the host's queue, then hold it; the sink feeds the host's own progress bar."""
        ...

    def borrow(self, config: TrainConfig, control: Control) -> AbstractContextManager[Borrowed]:
        """Lend the loaded model, prepared for training; on leaving everything is as it was.

        Raises:
            HostError: the model cannot be trained; nothing has been changed.
        """
        ...

    def bundle_written(self, path: Path) -> None:
        """Make a new or replaced bundle known to the host's Lora list."""
        ...
