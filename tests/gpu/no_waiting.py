"""Training steps in which every call that makes the CPU wait for the GPU is an error."""

from __future__ import annotations

from dataclasses import replace

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.setup import prepare


def train_without_waiting(config: TrainConfig, model: DiffusionModel, cache, *, graphs: bool = False) -> None:
    """Prepare a run and train some steps; the first ones may wait, since they allocate what later ones use again.

    Args:
        config: the settings.
        model: trained on.
        cache: folder for latents.
        graphs: whether to record the steps, which happens in the first ones, and waits.
    """
    first = 12 if graphs else 3
    setup = prepare(
        replace(config, cuda_graphs=graphs),
        model,
        cache=cache,
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )
    loop = Loop(setup, None, lambda _: None, Control(), SingleProcess())
    with setup.attached():
        for step in range(first):
            loop.train_step(step)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for step in range(first, first + 5):
                loop.train_step(step)
        finally:
            torch.cuda.set_sync_debug_mode("default")
