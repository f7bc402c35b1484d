"""Decides whether the steps of a run are recorded as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lib_pivotal.core.activations.lean import product_dtype
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.optim.build import Optimizer
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.cuda_graph import CudaGraphs, can_record, tolerance_for
from lib_pivotal.core.train.memory import MemoryPlan
from lib_pivotal.core.train.memory_estimate import may_use_graphs
from lib_pivotal.core.train.placement import Placement
from lib_pivotal.core.train.recorded_encoder import RecordedEncoder
from lib_pivotal.core.train.step_graphs import StepGraphs

__all__ = ["recorded_encoders", "step_graphs"]

logger = logging.getLogger("pivotal.train")


def recorded_encoders(
    config: TrainConfig,
    model: DiffusionModel,
    adapters: Sequence[AdapterSet],
    memory: MemoryPlan,
    placement: Placement,
) -> list[RecordedEncoder]:
    """The text encoders as they are recorded; empty if nothing of a step is.

    Args:
        config: the settings.
        model: the borrowed model.
        adapters: the trained adapters.
        memory: how the device's memory is used.
        placement: where the parts of the model are.
    """
    obstacle = _obstacle(config, model, memory, placement)
    if obstacle:
        if model.device.type == "cuda":
            logger.info("Steps are not recorded as CUDA graphs: %s.", obstacle)
        return []
    tolerance = tolerance_for(product_dtype(model.unet, model.autocast))
    # Each has memory of its own for what it keeps until the backward pass.
    return [
        RecordedEncoder(encoder, adapters, CudaGraphs(model.device, 0), tolerance) for encoder in model.text_encoders
    ]


def step_graphs(
    model: DiffusionModel,
    conditioner: TextConditioner,
    objective: Objective,
    optimizer: Optimizer,
    adapters: Sequence[AdapterSet],
    memory: MemoryPlan,
) -> StepGraphs:
    """The UNet's part of the step as it is recorded; for the arguments see :class:`StepGraphs` and above."""
    return StepGraphs(model, conditioner, objective, optimizer, adapters, CudaGraphs(model.device, memory.activations))


def _obstacle(config: TrainConfig, model: DiffusionModel, memory: MemoryPlan, placement: Placement) -> str:
    """Why steps are not recorded, as a part of a sentence; empty if they are."""
    if not config.cuda_graphs:
        return "they are turned off"
    if not can_record(model.device):
        return "this device, this version of torch or the settings of its memory do not allow it"
    if not may_use_graphs(config) or memory.saves or model.must_recompute:
        return "blocks are recomputed or predicted twice"
    # A graph replays what was at fixed addresses.
    if placement.moves_trained_parts:
        return "parts of the model are moved"
    return "" if memory.has_room_for_graphs else "there is too little memory"
