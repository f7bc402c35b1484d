"""How a training step gets the model's prediction; an alternative is another class with the same interface."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from lib_pivotal.core.lora.adapter_set import AdapterSet, disabled
from lib_pivotal.core.negative_rows import NegativeRows, with_negative_rows
from lib_pivotal.core.ports import DiffusionModel, ImageSize
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import CaptionGroup, TextConditioner
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
        return self.captions(noisy, batch.timesteps, batch.captions, batch.sizes)

    def captions(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        captions: Sequence[str],
        sizes: Sequence[ImageSize],
        *,
        negative_count: int = 0,
        spares_negative: bool = True,
    ) -> torch.Tensor:
        """Predict each row with its caption.

        Args:
            noisy: shape ``(B, C, h, w)``.
            timesteps: int64, shape ``(B,)``.
            captions: one per row.
            sizes: one per row.
            negative_count: number of rows at the end that are negative, see ``core.negative_rows``.
            spares_negative: whether only adapters for negative rows act on these.

        Returns:
            Shape ``(B, C, h, w)``, in the order of the captions.
        """
        plain_count = negative_count if spares_negative else 0
        groups = self._conditioner.encode(captions, sizes, plain_count=plain_count)
        first_negative = len(captions) - negative_count
        if len(groups) == 1:
            with _negative_rows(groups[0], first_negative, spares_negative):
                return self._model.predict(noisy, timesteps, groups[0].conditioning)
        order = [index for group in groups for index in group.indices]
        restored = sorted(range(len(order)), key=order.__getitem__)
        picked, back = to_device(torch.tensor([order, restored]), noisy.device)
        parts, first = [], 0
        for group in groups:
            own = picked[first : first + len(group.indices)]
            with _negative_rows(group, first_negative, spares_negative):
                parts.append(self._model.predict(noisy[own], timesteps[own], group.conditioning))
            first += len(own)
        # Restore the order of the batch.
        return torch.cat(parts)[back]


def _negative_rows(group: CaptionGroup, first_negative: int, spares_negative: bool) -> AbstractContextManager[None]:
    count = len(group.indices)
    # Indices ascend.
    start = sum(index < first_negative for index in group.indices)
    return with_negative_rows(NegativeRows(start, count, spares_negative) if start < count else None)


class PriorPrediction:
    """Predicts without the LoRA and without gradients; without embeddings, too, what the model did before the training.

    Args:
        model: the borrowed model.
        adapters: the trained adapters, which may be attached.
        embeddings: vectors of names that captions may have; None for captions without trained names.
        has_emphasis: whether brackets in captions weigh tags.
        caches_in_main_memory: see :class:`TextConditioner`.

    Source: Kumari et al. 2022 regularize with images that the model itself generates,
    https://arxiv.org/abs/2212.04488; its prediction for a noisy image needs no generation.
    """

    def __init__(
        self,
        model: DiffusionModel,
        adapters: Sequence[AdapterSet],
        embeddings: EmbeddingWeights | None = None,
        *,
        has_emphasis: bool = False,
        caches_in_main_memory: bool = False,
    ) -> None:
        conditioner = TextConditioner(
            model, embeddings, has_emphasis=has_emphasis, caches_in_main_memory=caches_in_main_memory
        )
        self._predict = CaptionPrediction(model, conditioner)
        self._adapters = adapters

    @torch.no_grad()
    def __call__(self, noisy: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See :class:`Prediction`; the result is fp32.

        Args:
            noisy: shape ``(B, C, h, w)``.
            batch: ``B`` items.
        """
        with disabled(self._adapters):
            return self._predict(noisy, batch).float()
