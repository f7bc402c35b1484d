"""What the session, the tab and the API need from a host."""

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
    """What the host lends to a training run."""

    model: DiffusionModel
    sampler: SampleMaker


class AppHost(Protocol):
    """What the session, the tab and the API need from a webui."""

    name: str
    """Host and version, as shown to users, e.g. ``A1111 1.10.1``."""

    def lora_folder(self) -> Path:
        """The folder in which ``<lora:NAME:1>`` finds bundles."""
        ...

    def data_root(self) -> Path:
        """The extension's folder for runs and caches; it exists or can be created."""
        ...

    def taken_names(self) -> dict[str, str]:
        """Names of installed embeddings, lower case → where each comes from (file name)."""
        ...

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        """The loaded model's tokenizer (text → token ids), or None while no model is loaded."""
        ...

    def family(self, config: TrainConfig) -> str:
        """Family of the model that these settings train, see ``core.families``; empty if it is not known."""
        ...

    def problems(self, config: TrainConfig) -> list[Problem]:
        """Why training cannot start on this host now (low memory modes, unknown checkpoint, …)."""
        ...

    def exclusive(self, task_id: str) -> AbstractContextManager[ProgressSink]:
        """Wait for a turn in the host's queue, then keep it; the sink updates the host's own progress bar."""
        ...

    def borrow(self, config: TrainConfig, control: Control) -> AbstractContextManager[Borrowed]:
        """Borrow the loaded model, prepared for training; on exit everything is restored.

        Raises:
            HostError: the model cannot be trained; nothing has been changed.
        """
        ...

    def bundle_written(self, path: Path) -> None:
        """Make a new or replaced bundle known to the host's Lora list; called within :meth:`exclusive`."""
        ...
