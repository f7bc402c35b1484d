"""What all webuis do alike for the session, the tab and the API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.train.memory_estimate import DeviceMemory
from lib_pivotal.host.webui import folders
from lib_pivotal.host.webui.captioners import ClipInterrogator, DeepDanbooru, available_captioners
from lib_pivotal.host.webui.lora_extension import list_files_again
from lib_pivotal.host.webui.progress import WebuiProgress, exclusive
from lib_pivotal.host.webui.replaced_loras import forget_file
from lib_pivotal.host.webui.txt2img import forget_conds

__all__ = ["WebuiHost"]


class WebuiHost:
    """The part of ``app.ports.AppHost`` that does not depend on the kind of webui.

    Args:
        name: webui and version to show to users, e.g. ``A1111 1.10.1``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def lora_folder(self) -> Path:
        """The folder in which ``<lora:NAME:1>`` finds bundles."""
        return folders.lora_folder()

    def data_root(self) -> Path:
        """This extension's own folder for runs and caches."""
        return folders.data_folder()

    def exclusive(self, task_id: str) -> AbstractContextManager[WebuiProgress]:
        """Wait for a turn in the webui's queue, then keep it; the sink updates the webui's progress bar."""
        return exclusive(task_id)

    def bundle_written(self, path: Path) -> None:
        """Add a new or replaced bundle to the webui's LoRA list, and stop using the old weights of a replaced one.

        Call within :meth:`exclusive`, since generations use the same lists.
        """
        forget_file(path)
        list_files_again()
        forget_conds()

    def device_memory(self, config: TrainConfig) -> DeviceMemory | None:
        """Sizes of the GPU and of the model that these settings train; None if they are not known."""
        return None

    def captioners(self) -> Sequence[DeepDanbooru | ClipInterrogator]:
        """Programs of the webui that describe images; not every webui has any."""
        return available_captioners()
