"""An A1111 webui as the session, the tab and the API see it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.events import Control
from lib_pivotal.core.train.memory_estimate import DeviceMemory
from lib_pivotal.host.a1111.checkpoints import load_checkpoint, same_checkpoint
from lib_pivotal.host.a1111.device_memory import find_device_memory
from lib_pivotal.host.a1111.family import family_of
from lib_pivotal.host.a1111.lease import Borrowed, borrow
from lib_pivotal.host.a1111.obstacles import find_obstacles
from lib_pivotal.host.webui.checkpoint_choice import family_to_train
from lib_pivotal.host.webui.comparison import WebuiComparison
from lib_pivotal.host.webui.host import WebuiHost
from lib_pivotal.host.webui.preview_embeddings import installed_names

__all__ = ["A1111Host"]


class A1111Host(WebuiHost):
    """Implements ``app.ports.AppHost`` for A1111 1.6.1 to 1.10.1.

    Args:
        version: the webui's version to show to users, e.g. ``1.10.1``.
    """

    def __init__(self, version: str) -> None:
        super().__init__(f"A1111 {version}".strip())

    def taken_names(self) -> dict[str, str]:
        """Names of installed embeddings, lower case → file name."""
        from modules import sd_hijack

        return installed_names(sd_hijack.model_hijack.embedding_db)

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        """The loaded model's tokenizer (text → token ids), or None while no model is loaded.

        Host: modules/sd_hijack_clip.py, ``tokenize``, A1111 1.6.1-1.10.1: takes a list, adds no start and end tokens.
        SDXL's conditioner has no such method (modules/sd_models_xl.py adds one from 1.7).
        """
        from modules import sd_models

        model = sd_models.model_data.sd_model
        encoder = getattr(model, "cond_stage_model", None)
        if encoder is None or not hasattr(encoder, "tokenize"):
            return None
        return lambda text: list(encoder.tokenize([text])[0])

    def family(self, config: TrainConfig) -> str:
        """Family of the model that these settings train; empty if it is not known."""
        return family_to_train(config, family_of)

    def device_memory(self, config: TrainConfig) -> DeviceMemory | None:
        """Sizes of the GPU and of the model that these settings train; None if they are not known."""
        return find_device_memory(config)

    def problems(self, config: TrainConfig) -> list[Problem]:
        """Why training cannot start in this webui now."""
        return find_obstacles(config)

    def borrow(self, config: TrainConfig, control: Control) -> AbstractContextManager[Borrowed]:
        """Borrow the model, prepared for training; call within :meth:`exclusive`.

        Raises:
            HostError: the model cannot be trained.
        """
        return borrow(config, control)

    def comparison(self) -> WebuiComparison:
        """What makes the images of a comparison."""
        return WebuiComparison(family_of, load_checkpoint, same_checkpoint)
