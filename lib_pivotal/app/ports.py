"""What the session, the tab and the API need from a host."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import DiffusionModel, ProgressSink, Sample, SampleMaker, SampleRequest
from lib_pivotal.core.train.memory_estimate import DeviceMemory

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["AppHost", "Borrowed", "Captioner", "ComparisonHost"]


@dataclass(frozen=True)
class Borrowed:
    """What the host lends to a training run."""

    model: DiffusionModel
    sampler: SampleMaker


class Captioner(Protocol):
    """A program of the webui that describes images."""

    name: str
    """As shown to users."""
    download: str
    """Size of what it downloads at its first use, with a unit."""

    def opened(self) -> AbstractContextManager[Callable[[Image.Image], str]]:
        """Load its model; within the context, the function returns the caption of an image in mode RGB.

        Only within :meth:`AppHost.exclusive`.

        Raises:
            HostError: the model cannot be loaded, or an image cannot be described.
            Interrupted: by the function, if the user has pressed the webui's Interrupt.
        """
        ...


class ComparisonHost(Protocol):
    """What a comparison needs from a webui."""

    def checkpoints(self) -> list[str]:
        """Titles of all checkpoints, as the webui lists them."""
        ...

    def selected_checkpoint(self) -> str:
        """Title of the selected checkpoint; empty if there is none."""
        ...

    def family(self, checkpoint: str) -> str:
        """Title of a checkpoint's family; empty if it is not known."""
        ...

    def label_of(self, path: Path) -> str:
        """The name that stands for a file in ``<lora:NAME:1>``.

        Raises:
            HostError: there is none.
        """
        ...

    def output_folder(self) -> Path:
        """Where the webui puts grids, as an absolute path."""
        ...

    def images(
        self, requests: Sequence[tuple[str, SampleRequest]], should_stop: Callable[[], bool]
    ) -> Generator[Sample, None, None]:
        """Make images one after the other, each with the given checkpoint; called within ``AppHost.exclusive``.

        Ends early when it is stopped or interrupted. Closing the iterator restores everything.
        """
        ...

    def interrupt(self, task_id: str) -> None:
        """End the image that is being made, if the webui is working on this task."""
        ...

    def draw(self, images: Sequence[Image.Image], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Image.Image:
        """One image with titles: images row by row, titles of the columns, and lines of each row's title."""
        ...


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

    def device_memory(self, config: TrainConfig) -> DeviceMemory | None:
        """Sizes of the GPU and of the model that these settings train; None if they are not known."""
        ...

    def problems(self, config: TrainConfig) -> list[Problem]:
        """Why training cannot start on this host now (unknown checkpoint, impossible precision, …)."""
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

    def captioners(self) -> Sequence[Captioner]:
        """Programs of the webui that describe images; may be empty."""
        ...

    def comparison(self) -> ComparisonHost:
        """What makes the images of a comparison."""
        ...
