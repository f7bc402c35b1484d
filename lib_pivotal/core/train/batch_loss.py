"""The loss of a batch, as it is differentiated."""

from __future__ import annotations

import torch

from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.train.batches import Batch

__all__ = ["batch_loss"]


def batch_loss(
    objective: Objective, prediction: torch.Tensor, batch: Batch, batch_count: float, target: torch.Tensor | None
) -> torch.Tensor:
    """A batch's share of the step's mean loss, 0-dim.

    Args:
        objective: computes the loss of each item.
        prediction: what the model predicts, shape ``(B, C, h, w)``.
        batch: the batch.
        batch_count: how many batches of its size make up a step.
        target: what it should predict; None for the noise or velocity.
    """
    losses = objective.losses(prediction, batch.latents, batch.noise, batch.timesteps, batch.masks, target)
    if batch.weights is not None:
        losses = losses * batch.weights
    return losses.mean() / batch_count
