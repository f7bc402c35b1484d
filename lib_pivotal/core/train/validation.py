"""Measures images that are not trained, with the same noise every time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.core_tags.pruning import pruner_for
from lib_pivotal.core.data.class_words import with_words
from lib_pivotal.core.data.folder_captions import caption_makers, image_concepts
from lib_pivotal.core.data.negative_captions import NegativeCaptions
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.diffusion.item_random import item_seed
from lib_pivotal.core.diffusion.noise import item_noise
from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.core.to_device import to_device
from lib_pivotal.core.train.batches import Batch, image_weight, mask_of, size_of
from lib_pivotal.core.train.prediction import Prediction
from lib_pivotal.core.train.training_data import ValidationData

__all__ = ["Validation", "validation_batches"]

_ITEMS = 32
"""Approximate number of predictions per kind of caption; each image is used equally often."""
_SEED, _STEP = 0, -1
"""The same for all runs, so that they can be compared, and none of a training step."""
_GOLDEN = 0.6180339887498949
"""Its multiples, without their whole part, are spread evenly, however many of them are taken."""


class Validation:
    """The losses of images that are not trained.

    Args:
        batches: kind of caption → batches, see :func:`validation_batches`.
        model: the borrowed model.
        predict: gets its prediction for a batch.
        objective: computes the losses, as in training.
    """

    def __init__(
        self, batches: Mapping[str, Sequence[Batch]], model: DiffusionModel, predict: Prediction, objective: Objective
    ) -> None:
        self._batches = batches
        self._model = model
        self._predict = predict
        self._objective = objective

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Kind of caption → mean loss with the present embeddings and adapters; no random state changes."""
        means = torch.stack([self._mean(batches) for batches in self._batches.values()])
        return dict(zip(self._batches, means.tolist(), strict=True))

    def _mean(self, batches: Sequence[Batch]) -> torch.Tensor:
        losses, weights = [], []
        for batch in batches:
            noisy = self._objective.noisy(batch.latents, batch.noise, batch.timesteps)
            with self._model.autocast():
                prediction = self._predict(noisy, batch)
                losses.append(
                    self._objective.losses(prediction, batch.latents, batch.noise, batch.timesteps, batch.masks)
                )
            assert batch.weights is not None
            weights.append(batch.weights)
        weight = torch.cat(weights)
        return (torch.cat(losses) * weight).sum() / weight.sum()


def validation_batches(
    data: ValidationData,
    trained: Sequence[DatasetImage],
    config: TrainConfig,
    timestep_count: int,
    device: torch.device,
) -> dict[str, list[Batch]]:
    """Kind of caption (a field of :class:`lib_pivotal.core.events.Validated`) → batches that differ only by captions.

    Args:
        data: at least one image.
        trained: the images of the steps, which say whose core tags are whose.
        config: the settings.
        timestep_count: number of timesteps of the noise schedule.
        device: device of the batches.
    """
    by_bucket: dict[tuple[int, int], list[tuple[int, int]]] = {}
    repeats = max(1, round(_ITEMS / len(data.images)))
    for position in range(repeats * len(data.images)):
        index = position % len(data.images)
        by_bucket.setdefault(data.entries[index].bucket, []).append((position, index))
    size = config.batch_size
    captions = _captions(data, trained, config)
    result: dict[str, list[Batch]] = {kind: [] for kind in captions}
    for places in by_bucket.values():
        for start in range(0, len(places), size):
            together = places[start : start + size]
            batch = _batch(data, together, config, timestep_count, device)
            for kind, made in captions.items():
                own = [made[index] for _, index in together]
                negatives = [negative for _, negative in own]
                result[kind].append(
                    replace(batch, captions=[text for text, _ in own], negatives=negatives if any(negatives) else ())
                )
    return result


def _batch(
    data: ValidationData,
    places: Sequence[tuple[int, int]],
    config: TrainConfig,
    timestep_count: int,
    device: torch.device,
) -> Batch:
    """Batch of (position, image index) pairs, without captions."""
    latents, noises, timesteps = [], [], []
    for position, index in places:
        item = data.items[index]
        noise, _ = item_noise(item_seed(_SEED, _STEP, position), tuple(item.mean.shape), timestep_count)
        latents.append(item.mean)
        noises.append(noise.noise)
        timesteps.append(int(position * _GOLDEN % 1.0 * timestep_count))
    indices = [index for _, index in places]
    masks = None
    if any(image.mask is not None for image in data.images):
        cells = [mask_of(data.images[index], data.entries[index], config.mask_floor) for index in indices]
        masks = to_device(torch.stack(cells), device)
    return Batch(
        latents=to_device(torch.stack(latents), device),
        noise=to_device(torch.stack(noises), device),
        timesteps=to_device(torch.tensor(timesteps), device),
        captions=[],
        sizes=[size_of(data.images[index], data.entries[index].bucket) for index in indices],
        masks=masks,
        weights=to_device(torch.tensor([image_weight(data.images[index], config) for index in indices]), device),
    )


def _captions(
    data: ValidationData, trained: Sequence[DatasetImage], config: TrainConfig
) -> dict[str, list[tuple[str, str]]]:
    """Kind of caption → caption and negative caption of each image; nothing but core tags is shuffled or dropped."""
    plain = replace(
        config,
        shuffle_tags=False,
        tag_dropout=0.0,
        name_only=0.0,
        caption_dropout=0.0,
        tag_warmup=0.0,
        single_name=0.0,
    )
    result = {"caption": _made(data, trained, plain)}
    mentioned = set().union(*image_concepts(data.images, plain))
    if mentioned:
        result["name_only"] = _made(data, trained, replace(plain, name_only=1.0))
        concepts = [concept for concept in config.concepts if concept.name in mentioned]
        if all(_initialization(concept) for concept in concepts):
            words = tuple(replace(item, negative_vectors=0) for item in with_words(concepts, _initialization))
            result["initialization"] = _made(data, trained, replace(plain, concepts=words))
    return result


def _initialization(concept: Concept) -> str:
    return concept.init_text.strip()


def _made(data: ValidationData, trained: Sequence[DatasetImage], config: TrainConfig) -> list[tuple[str, str]]:
    makers, negatives = (
        caption_makers(data.images, config, pruner_for(config, trained)),
        NegativeCaptions(config.concepts),
    )
    drawn = [makers[image.subset].draw(image.caption or "", random.Random(_SEED)) for image in data.images]
    return [(caption.text, negatives.of(caption)) for caption in drawn]
