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
        caches_in_main_memory: see :class:`TextConditioner`.
    """

    def __init__(
        self,
        model: DiffusionModel,
        teacher: Sequence[AdapterSet],
        adapters: Sequence[AdapterSet],
        embeddings: EmbeddingWeights,
        *,
        has_emphasis: bool,
        caches_in_main_memory: bool = False,
    ) -> None:
        # Neither the kept vectors nor the teacher change, so encodings can be cached.
        conditioner = TextConditioner(
            model, embeddings, has_emphasis=has_emphasis, caches_in_main_memory=caches_in_main_memory
        )
        self._predict = CaptionPrediction(model, conditioner)
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
        names: the kept names that captions may have.
        config: the settings.
        timestep_count: number of timesteps of the noise schedule.
        samples_per_step: number of trained items of a step in all processes together.
        teacher: predicts what is to be kept.
    """

    def __init__(
        self,
        names: Sequence[str],
        config: TrainConfig,
        *,
        timestep_count: int,
        samples_per_step: int,
        teacher: TeacherPrediction,
    ) -> None:
        self._names = list(names)
        self._config = config
        self._timestep_count = timestep_count
        self._count = max(1, samples_per_step // _SHARE)
        self._weight = config.keep_names * samples_per_step / self._count
        trained = [name for concept in config.concepts for name in (concept.name, *concept.aliases) if name.strip()]
        longest_first = sorted(trained, key=len, reverse=True)
        self._trained = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
        self.teacher = teacher

    def batches(self, step: int, trained: Sequence[Batch]) -> list[Batch]:
        """Batches for step ``step`` (0 …), with the image of every fourth trained item and noise of their own.

        Which items these are depends on their positions in the whole step, so that several processes do together what
        one would do; a process whose items are not among them has no batches.

        Args:
            step: number of the step.
            trained: its batches in this process.
        """
        by_shape: dict[tuple[int, ...], list[tuple[Batch, int]]] = {}
        for batch in trained:
            for index, position in enumerate(batch.positions):
                if position % _SHARE == 0 and position // _SHARE < self._count:
                    by_shape.setdefault(tuple(batch.latents.shape[1:]), []).append((batch, index))
        size = self._config.batch_size
        return [
            self._batch(step, shape, items[start : start + size])
            for shape, items in by_shape.items()
            for start in range(0, len(items), size)
        ]

    def _batch(self, step: int, shape: tuple[int, ...], items: Sequence[tuple[Batch, int]]) -> Batch:
        """A batch of items, each given by its batch and its index in there."""
        drawn = [
            item_noise(
                item_seed(self._config.seed, step, _FIRST_POSITION + batch.positions[index] // _SHARE),
                shape,
                self._timestep_count,
                timestep_range=(self._config.min_timestep, self._config.max_timestep),
                offset=self._config.noise_offset,
            )
            for batch, index in items
        ]
        latents = torch.stack([batch.latents[index] for batch, index in items])
        device = latents.device
        return Batch(
            latents=latents,
            noise=to_device(torch.stack([item.noise for item, _ in drawn]), device),
            timesteps=to_device(torch.tensor([item.timestep for item, _ in drawn]), device),
            captions=[
                self._renamed(batch.captions[index], rng) for (batch, index), (_, rng) in zip(items, drawn, strict=True)
            ],
            sizes=[batch.sizes[index] for batch, index in items],
            weights=torch.full((len(items),), self._weight, device=device),
            is_kept=True,
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
