"""reForge's loaded model as the engine sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.host.a1111.model import A1111Model, recomputing_forwards
from lib_pivotal.host.reforge.text import TransformersEncoder

__all__ = ["ReforgeModel"]


class ReforgeModel(A1111Model):
    """Like A1111's, with other text encoders; implements ``core.ports.DiffusionModel``."""

    open_clip = TransformersEncoder

    def __init__(self, model: Any, config: TrainConfig, control: Control) -> None:
        super().__init__(model, config, control)
        # reForge keeps the VAE in main memory until it has to decode, so that images would be encoded there.
        self.offloading.offload("vae")

    @contextlib.contextmanager
    def checkpointing(self, *, enabled: bool) -> Iterator[None]:
        """Within the context the UNet's blocks and the layers of the text encoders recompute activations in backward.

        Host: ldm_patched/modules/ops.py, ``manual_cast``, reForge: casts the weights of the text encoders at each call,
            and autograd would keep the copies.
        """
        layers = [layer for encoder in self.text_encoders for layer in encoder.layers()]
        with super().checkpointing(enabled=enabled), recomputing_forwards(layers if enabled else []):
            yield
