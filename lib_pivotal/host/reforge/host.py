"""reForge as the session, the tab and the API see it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.events import Control
from lib_pivotal.host.a1111.checkpoints import load_checkpoint, same_checkpoint
from lib_pivotal.host.a1111.family import family_of, require_trainable, unet_of
from lib_pivotal.host.a1111.host import A1111Host
from lib_pivotal.host.a1111.obstacles import StorageAdvice, find_obstacles
from lib_pivotal.host.reforge.lease import Borrowed, borrow
from lib_pivotal.host.reforge.sample import no_scripts
from lib_pivotal.host.webui.checkpoint_choice import loaded_model
from lib_pivotal.host.webui.comparison import WebuiComparison

__all__ = ["ReforgeHost"]

_ADVICE = StorageAdvice(
    in_full="--all-in-fp32",
    not_in_eight_bits="start the webui without --unet-in-fp8-e4m3fn and --unet-in-fp8-e5m2",
)
"""Only start options decide; A1111's ``--no-half`` and its setting for fp8 are still there and do nothing.

Host: ldm_patched/modules/args_parser.py, ``--all-in-fp32``, ``--unet-in-fp8-e4m3fn``, ``--unet-in-fp8-e5m2``, reForge.
"""


class ReforgeHost(A1111Host):
    """Implements ``app.ports.AppHost`` for reForge of 2026.

    Args:
        version: the webui's version to show to users, e.g. ``1.0.0v2``.
    """

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.name = f"reForge {version}".strip()

    def device_memory(self, config: TrainConfig) -> None:
        """Not known: reForge decides by itself in which precision parts are stored, and moves them."""

    def problems(self, config: TrainConfig) -> list[Problem]:
        """Why training cannot start in this webui now.

        Host: ldm_patched/modules/model_management.py, ``unet_dtype``, reForge: decides about precision by itself.
        """
        return find_obstacles(config, require_trainable, _is_half, _ADVICE)

    def borrow(self, config: TrainConfig, control: Control) -> AbstractContextManager[Borrowed]:  # type: ignore[override]
        """Borrow the model, prepared for training; call within :meth:`exclusive`.

        Raises:
            HostError: the model cannot be trained.
        """
        return borrow(config, control)

    def comparison(self) -> WebuiComparison:
        """What makes the images of a comparison."""
        return WebuiComparison(family_of, load_checkpoint, same_checkpoint, no_scripts)


def _is_half() -> bool:
    """Whether the model is loaded in fp16 or bf16; before it is loaded, reForge has not decided."""
    model = loaded_model()
    return model is not None and next(unet_of(model).parameters()).dtype in (torch.float16, torch.bfloat16)
