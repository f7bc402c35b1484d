"""The loss of a batch, as it is differentiated."""

from __future__ import annotations

import torch

from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.train.batches import Batch

__all__ = ["batch_loss"]


def batch_loss(
    objective: Objective,
    prediction: torch.Tensor,
    batch: Batch,
    batch_count: float,
    target: torch.Tensor | None,
    unchanged: torch.Tensor | None = None,
    unchanged_weight: float = 0.0,
) -> torch.Tensor:
    """A batch's share of the step's mean loss, 0-dim.

    Args:
        objective: computes the loss of each item.
        prediction: what the model predicts, shape ``(B, C, h, w)``.
        batch: the batch.
        batch_count: how many batches of its size make up a step.
        target: what it should predict; None for the noise or velocity.
        unchanged: what it should predict outside the masks, same shape; None if nothing is kept there.
        unchanged_weight: how much that counts, compared with what is inside.
    """

    def losses_with(masks: torch.Tensor | None, target: torch.Tensor | None) -> torch.Tensor:
        return objective.losses(prediction, batch.latents, batch.noise, batch.timesteps, masks, target)

    losses = losses_with(batch.masks, target)
    if unchanged is not None and batch.masks is not None:
        losses = losses + unchanged_weight * losses_with((1.0 - batch.masks).clamp(min=0.0), unchanged)
    if batch.weights is not None:
        losses = losses * batch.weights
    return losses.mean() / batch_count
