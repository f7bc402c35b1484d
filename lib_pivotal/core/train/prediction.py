"""How a training step gets the model's prediction; an alternative is another class with the same interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from lib_pivotal.core.lora.adapter_set import AdapterSet, disabled
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.to_device import to_device
from lib_pivotal.core.train.batches import Batch

__all__ = ["CaptionPrediction", "Prediction", "PriorPrediction"]


class Prediction(Protocol):
    """What the model predicts for a batch."""

    def __call__(self, noisy: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Predict noise or velocity.

        Args:
            noisy: noisy latents, shape ``(B, C, h, w)``.
            batch: its timesteps, captions and sizes are used.

        Returns:
            Shape ``(B, C, h, w)``, in the order of the batch.
        """
        ...


class CaptionPrediction:
    """Predicts each item with its caption as conditioning.

    Args:
        model: the borrowed model.
        conditioner: encodes the captions.
    """

    def __init__(self, model: DiffusionModel, conditioner: TextConditioner) -> None:
        self._model = model
        self._conditioner = conditioner

    def __call__(self, noisy: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See :class:`Prediction`; captions with different numbers of chunks are predicted separately.

        Args:
            noisy: shape ``(B, C, h, w)``.
            batch: ``B`` items.
        """
        groups = self._conditioner.encode(batch.captions, batch.sizes)
        if len(groups) == 1:
            return self._model.predict(noisy, batch.timesteps, groups[0].conditioning)
        order = [index for group in groups for index in group.indices]
        restored = sorted(range(len(order)), key=order.__getitem__)
        picked, back = to_device(torch.tensor([order, restored]), noisy.device)
        parts, first = [], 0
        for group in groups:
            own = picked[first : first + len(group.indices)]
            parts.append(self._model.predict(noisy[own], batch.timesteps[own], group.conditioning))
            first += len(own)
        # Restore the order of the batch.
        return torch.cat(parts)[back]


class PriorPrediction:
    """Predicts what the model did before the training: without the LoRA and the embeddings, and without gradients.

    Args:
        model: the borrowed model.
        adapters: the trained adapters, which may be attached.
        has_emphasis: whether brackets in captions weigh tags.

    Source: Kumari et al. 2022 regularize with images that the model itself generates,
    https://arxiv.org/abs/2212.04488; its prediction for a noisy image needs no generation.
    """

    def __init__(self, model: DiffusionModel, adapters: Sequence[AdapterSet], *, has_emphasis: bool = False) -> None:
        self._predict = CaptionPrediction(model, TextConditioner(model, has_emphasis=has_emphasis))
        self._adapters = adapters

    @torch.no_grad()
    def __call__(self, noisy: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See :class:`Prediction`; the result is fp32.

        Args:
            noisy: shape ``(B, C, h, w)``.
            batch: ``B`` items, with captions that contain no trained names.
        """
        with disabled(self._adapters):
            return self._predict(noisy, batch).float()
