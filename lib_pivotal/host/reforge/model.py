"""reForge's loaded model as the engine sees it."""

from __future__ import annotations

from typing import Any

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.host.a1111.model import A1111Model
from lib_pivotal.host.reforge.text import TransformersEncoder

__all__ = ["ReforgeModel"]


class ReforgeModel(A1111Model):
    """Like A1111's, with other text encoders; implements ``core.ports.DiffusionModel``."""

    open_clip = TransformersEncoder

    def __init__(self, model: Any, config: TrainConfig, control: Control) -> None:
        super().__init__(model, config, control)
        # reForge keeps the VAE in main memory until it has to decode, so that images would be encoded there.
        self.offloading.offload("vae")
