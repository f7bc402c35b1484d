"""The prediction of a concept against its negative embedding, as guidance combines the two in a generation.

Source: Dong et al. 2022, DreamArtist, https://arxiv.org/abs/2211.11337
"""

from __future__ import annotations

import torch

from lib_pivotal.core.to_device import to_device
from lib_pivotal.core.train.batches import Batch
from lib_pivotal.core.train.prediction import CaptionPrediction

__all__ = ["GuidedPrediction"]


class GuidedPrediction:
    """Predicts each item twice, with its caption and with its negative caption, and moves from one to the other.

    The result is ``negative + guidance · (positive - negative)``; both have gradients, in the ratio of ``guidance`` to
    ``1 - guidance``. Items without a negative caption are predicted once, as by ``CaptionPrediction``.

    Args:
        predict: predicts captions; implements ``prediction.Prediction``.
        guidance: ≥ 1; with 1 negative captions have no effect.
        negative_with_lora: whether the adapters act on negative captions, too.
    """

    def __init__(self, predict: CaptionPrediction, guidance: float, *, negative_with_lora: bool = False) -> None:
        self._predict = predict
        self._guidance = guidance
        self._negative_with_lora = negative_with_lora

    def __call__(self, noisy: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See ``prediction.Prediction``.

        Args:
            noisy: shape ``(B, C, h, w)``.
            batch: ``B`` items.
        """
        own = [index for index, caption in enumerate(batch.negatives) if caption]
        if not own:
            return self._predict(noisy, batch)
        count = len(batch.captions)
        rows = to_device(torch.tensor(own), noisy.device)
        both = self._predict.captions(
            torch.cat([noisy, noisy[rows]]),
            torch.cat([batch.timesteps, batch.timesteps[rows]]),
            [*batch.captions, *(batch.negatives[index] for index in own)],
            [*batch.sizes, *(batch.sizes[index] for index in own)],
            negative_count=len(own),
            spares_negative=not self._negative_with_lora,
        )
        positive, negative = torch.split(both, [count, len(own)])
        # With a weight of 1, lerp returns its end to the bit.
        return positive.index_copy(0, rows, torch.lerp(negative, positive[rows], self._guidance))
