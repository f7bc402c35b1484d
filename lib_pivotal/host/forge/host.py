"""Forge and Forge-Neo as the session, the tab and the API see it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.events import Control
from lib_pivotal.host.forge.checkpoints import load_checkpoint, same_checkpoint
from lib_pivotal.host.forge.family import family_of, text_engines
from lib_pivotal.host.forge.lease import Borrowed, borrow
from lib_pivotal.host.forge.obstacles import find_obstacles
from lib_pivotal.host.webui.checkpoint_choice import family_to_train, loaded_model
from lib_pivotal.host.webui.comparison import WebuiComparison
from lib_pivotal.host.webui.host import WebuiHost
from lib_pivotal.host.webui.preview_embeddings import installed_names

__all__ = ["ForgeHost"]


class ForgeHost(WebuiHost):
    """Implements ``app.ports.AppHost`` for Forge since August 2024, and for Forge-Neo.

    Args:
        name: of the webui, to show to users, e.g. ``Forge 2.0.1``.
    """

    def taken_names(self) -> dict[str, str]:
        """Names of installed embeddings, lower case → file name; those that fit the loaded model.

        Host: backend/text_processing/textual_inversion.py, ``word_embeddings``, Forge: one store per text engine.
        """
        stores = [engine.embeddings for engine in text_engines(loaded_model())]
        return {name: file for store in stores for name, file in installed_names(store).items()}

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        """The loaded model's tokenizer (text → token ids), or None while no model is loaded."""
        engines = text_engines(loaded_model())
        if not engines:
            return None
        tokenizer = engines[0].tokenizer
        return lambda text: list(tokenizer([text], truncation=False, add_special_tokens=False)["input_ids"][0])

    def family(self, config: TrainConfig) -> str:
        """Family of the model that these settings train; empty if it is not known."""
        return family_to_train(config, family_of)

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
