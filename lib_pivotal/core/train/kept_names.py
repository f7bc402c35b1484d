"""Keeps the names of the bundle that a run starts from while it trains others.

Their vectors stay as they are. The LoRA, which all names share, learns at every step to predict for some noisy images,
with captions that have one of these names in place of a trained one, what it predicted for them before. No images of
the kept names are needed.

Source: Li & Hoiem 2016, section 3, https://arxiv.org/abs/1606.09282, for the old network as teacher on new images.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.diffusion.item_random import item_seed
from lib_pivotal.core.diffusion.noise import item_noise
from lib_pivotal.core.lora.adapter_set import AdapterSet, disabled, enabled
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.to_device import to_device
from lib_pivotal.core.train.batches import Batch
from lib_pivotal.core.train.prediction import CaptionPrediction

__all__ = ["NameKeeper", "TeacherPrediction"]

_SHARE = 4
"""One more item per this many trained ones is for the kept names."""
_FIRST_POSITION = 1_000_000
"""Positions of these items, for their random numbers; no step has as many trained ones."""


class TeacherPrediction:
    """Predicts what the bundle did that the run started from; without gradients.

    Args:
        model: the borrowed model.
        teacher: that bundle's adapters, attached and disabled.
        adapters: the trained adapters, which may be attached.
        embeddings: has the kept vectors.
        has_emphasis: whether brackets in captions weigh tags.
    """

    def __init__(
        self,
        model: DiffusionModel,
        teacher: Sequence[AdapterSet],
        adapters: Sequence[AdapterSet],
        embeddings: EmbeddingWeights,
        *,
        has_emphasis: bool,
    ) -> None:
        # Neither the kept vectors nor the teacher change, so encodings can be cached.
        self._predict = CaptionPrediction(model, TextConditioner(model, embeddings, has_emphasis=has_emphasis))
        self._teacher = teacher
        self._adapters = adapters

    @torch.no_grad()
    def __call__(self, noisy: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See :class:`lib_pivotal.core.train.prediction.Prediction`; the result is fp32.

        Args:
            noisy: shape ``(B, C, h, w)``.
            batch: ``B`` items, whose captions have no trained names.
        """
        with disabled(self._adapters), enabled(self._teacher):
            return self._predict(noisy, batch).float()


class NameKeeper:
    """Makes the batches for the kept names.

    Args:
        names: the kept names.
        config: the settings.
        timestep_count: number of timesteps of the noise schedule.
        items_per_step: number of trained items of a step in this process.
        rank: index of this process.
        teacher: predicts what is to be kept.
    """

    def __init__(
        self,
        names: Sequence[str],
        config: TrainConfig,
        *,
        timestep_count: int,
        items_per_step: int,
        rank: int,
        teacher: TeacherPrediction,
    ) -> None:
        self._names = list(names)
        self._config = config
        self._timestep_count = timestep_count
        self._items_per_step = items_per_step
        self._count = max(1, items_per_step // _SHARE)
        self._first = _FIRST_POSITION + rank * self._count
        trained = [name for concept in config.concepts for name in (concept.name, *concept.aliases) if name.strip()]
        longest_first = sorted(trained, key=len, reverse=True)
        self._trained = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
        self.teacher = teacher

    def batch(self, step: int, trained: Batch) -> Batch:
        """A batch for step ``step`` (0 …), with images of the step's first batch and noise of its own.

        Args:
            step: number of the step.
            trained: that batch.
        """
        count = min(self._count, len(trained.captions))
        shape = tuple(trained.latents.shape[1:])
        drawn = [
            item_noise(
                item_seed(self._config.seed, step, self._first + place),
                shape,
                self._timestep_count,
                timestep_range=(self._config.min_timestep, self._config.max_timestep),
                offset=self._config.noise_offset,
            )
            for place in range(count)
        ]
        device = trained.latents.device
        weight = self._config.keep_names * self._items_per_step / count
        return replace(
            trained,
            latents=trained.latents[:count],
            noise=to_device(torch.stack([item.noise for item, _ in drawn]), device),
            timesteps=to_device(torch.tensor([item.timestep for item, _ in drawn]), device),
            captions=[
                self._renamed(caption, rng) for caption, (_, rng) in zip(trained.captions[:count], drawn, strict=True)
            ],
            sizes=trained.sizes[:count],
            masks=None,
            weights=torch.full((count,), weight, device=device),
            has_prior=False,
            is_kept=True,
            negatives=(),
        )

    def _renamed(self, caption: str, rng: random.Random) -> str:
        """A caption with a kept name in place of the trained ones, or in front if it has none."""
        name = rng.choice(self._names)
        pieces = self._trained.split(caption) if self._config.concepts else [caption]
        if len(pieces) == 1:
            return f"{name}, {caption}" if caption else name
        # Names after the first one are left out with the comma that follows them.
        first, *rest = pieces
        return first + name + rest[0] + "".join(piece.removeprefix(",") for piece in rest[1:])
