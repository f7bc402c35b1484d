"""The batches of a step: latents, noise, timesteps and captions of its items."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import REGULARIZATION
from lib_pivotal.core.data.bucket import bucket_for, crop
from lib_pivotal.core.data.latent_store import LatentItem
from lib_pivotal.core.data.latents import LatentEntry
from lib_pivotal.core.data.mask import CELL
from lib_pivotal.core.data.negative_captions import NegativeCaptions
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.diffusion.item_random import item_seed
from lib_pivotal.core.diffusion.noise import item_noise
from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.to_device import to_device
from lib_pivotal.core.train.step_items import StepItems

__all__ = ["Batch", "Batcher", "image_weight", "latent_entries", "mask_of", "size_of"]

_ON_DEVICE_BYTES = 256 * 2**20
"""Latents stay on the device up to this size."""
_NO_POSITION = -1
"""Stands for a whole step in the seeds of its items."""


@dataclass(frozen=True)
class Batch:
    """Items that go through the UNet together.

    Attributes:
        latents: fp32 on the device, shape ``(B, C, h, w)``.
        noise: same shape.
        timesteps: int64 on the device, shape ``(B,)``.
        captions: one per item.
        sizes: one per item.
        positions: of the items in the step, over all processes; empty if they are not items of a step.
        masks: how much each latent cell counts, ≥ 0, shape ``(B, 1, h, w)``; None weights all equally.
        weights: how much each item counts, ≥ 0, shape ``(B,)``; None weights all equally.
        has_prior: whether the items are to be predicted as before the training, see ``prediction.PriorPrediction``.
        negatives: one caption per item, for the negative embeddings of what it shows; empty for items that have none.
            Empty as a whole if no item has any.
        is_kept: whether they are to be predicted as by the bundle that the run started from, see ``kept_names.py``.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    captions: list[str]
    sizes: list[ImageSize]
    positions: Sequence[int] = ()
    masks: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    has_prior: bool = False
    negatives: Sequence[str] = ()
    is_kept: bool = False


def latent_entries(
    images: Sequence[DatasetImage], resolution: int, *, flip: bool, background: str = "white"
) -> list[LatentEntry]:
    """The images to encode, each in its bucket; with ``flip``, followed by their mirror images.

    Args:
        images: images of the dataset.
        resolution: side of the square bucket in px.
        flip: whether to train on mirror images, too.
        background: what transparent parts show.
    """
    plain = [
        LatentEntry(
            image.path,
            bucket_for(image.width, image.height, resolution),
            mirrored=False,
            sha256=image.sha256,
            shown=image.shown,
            background=background if image.transparency else "white",
            is_converted="profile" in image.notes,
            pixel_count=image.width * image.height,
        )
        for image in images
    ]
    return plain + ([replace(entry, mirrored=True) for entry in plain] if flip else [])


class Batcher:
    """Makes the batches of any step. Steps may be requested in any order and always give the same batches.

    Args:
        images: images of the steps, see :func:`lib_pivotal.core.data.kinds.images_of_steps`.
        entries: see :func:`latent_entries`.
        items: latents of the entries, in the same order.
        config: settings.
        timestep_count: number of timesteps of the noise schedule.
        device: device of the batches.
        weights: how often each image is used, relative to the others; None uses its repeats.
        rank: index of this process.
        processes: number of processes that train together.
        steps: number of steps of the run, which tag warm-up depends on; 0 trains all tags from the beginning.
        items_per_step: number of items of a step in this process; 0 for batch size × accumulation.

    Attributes:
        items_per_step: number of items of a step in this process.
    """

    def __init__(
        self,
        images: Sequence[DatasetImage],
        entries: Sequence[LatentEntry],
        items: Sequence[LatentItem],
        config: TrainConfig,
        *,
        timestep_count: int,
        device: torch.device,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        processes: int = 1,
        steps: int = 0,
        items_per_step: int = 0,
    ) -> None:
        self._config = config
        self._device = device
        self._timestep_count = timestep_count
        self.items_per_step = items_per_step or config.batch_size * config.accumulation
        self._first = rank * self.items_per_step
        self._negatives = NegativeCaptions(config.concepts)
        self._step_size = self.items_per_step * processes
        self._items = StepItems(images, config, self._step_size, steps, weights)
        buckets = [entry.bucket for entry in entries[: len(images)]]
        loss_weights = [image_weight(image, config) for image in images]
        self._weights = None if set(loss_weights) == {1.0} else loss_weights
        self._sizes = [size_of(image, bucket) for image, bucket in zip(images, buckets, strict=True)]
        size = sum(item.moments.numel() * 4 for item in items)
        size += sum(image.mask.cells.nbytes for image in images if image.mask is not None)
        self._home = device if size <= _ON_DEVICE_BYTES else torch.device("cpu")
        self._unmasked_share = config.unmasked_share
        self._slots = _slots(entries)
        # Many latents are not copied, because they may be in a file. Those that are, are not kept a second time.
        self._stacked = _stacked(entries, items, device) if size <= _ON_DEVICE_BYTES else None
        self._latents = items if self._stacked is None else ()
        self._shapes = {entry.bucket: item.mean.shape for entry, item in zip(entries, items, strict=True)}
        self._masks = _stacked_masks(images, entries, config.mask_floor, self._home)
        self._buckets = buckets

    def step(self, number: int) -> list[Batch]:
        """Batches of step ``number`` (0 …) for this process: ``accumulation``, or more if regularization images differ.

        They have :attr:`items_per_step` items in total.
        """
        places = list(enumerate(self._items.images_of(number)))[self._first : self._first + self.items_per_step]
        size = self._config.batch_size
        strata = self._strata_of(number) if self._config.stratified_timesteps else None
        return [
            self._batch(number, together, strata)
            for start in range(0, self.items_per_step, size)
            for together in self._alike(places[start : start + size])
        ]

    def _strata_of(self, step: int) -> list[int]:
        """By position in the step, over all processes: which part of the noise levels the item's level is drawn from.

        In random order, so that none of them always belongs to the same image.
        """
        strata = list(range(self._step_size))
        random.Random(item_seed(self._config.seed, step, _NO_POSITION)).shuffle(strata)
        return strata

    def _alike(self, places: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        """Split (position, index) pairs by the bucket and the target of the images."""
        groups: dict[tuple[object, bool], list[tuple[int, int]]] = {}
        for position, index in places:
            groups.setdefault((self._buckets[index], self._items.has_prior[index]), []).append((position, index))
        return list(groups.values())

    def _batch(self, step: int, places: Sequence[tuple[int, int]], strata: Sequence[int] | None) -> Batch:
        indices = [index for _, index in places]
        has_prior = self._items.has_prior[indices[0]]
        bucket = self._buckets[indices[0]]
        shape = tuple(self._shapes[bucket])
        noises, numbers, mask_slots, captions, negatives = [], [], [], [], []
        for position, index in places:
            item, rng = item_noise(
                item_seed(self._config.seed, step, position),
                shape,
                self._timestep_count,
                timestep_range=(self._config.min_timestep, self._config.max_timestep),
                offset=self._config.noise_offset,
                stratum=None if strata is None else (strata[position], len(strata)),
            )
            is_mirrored, caption = self._items.draw(index, step, rng)
            numbers.append(index + len(self._sizes) * is_mirrored)
            captions.append(caption.text)
            negatives.append("" if has_prior else self._negatives.of(caption))
            noises.append(item)
            # Drawn last, so that masks change none of the other draws.
            is_unmasked = bool(self._masks) and rng.random() < self._unmasked_share
            mask_slots.append(-1 if is_unmasked else self._slots[numbers[-1]])
        drawn = torch.stack([torch.stack([item.noise, item.posterior]) for item in noises])
        timesteps = torch.tensor([item.timestep for item in noises])
        moments = self._moments(bucket, numbers)
        masks = None
        if self._masks:
            chosen = self._masks[bucket][to_device(torch.tensor(mask_slots), self._home)]
            masks = to_device(chosen, self._device)
        drawn, timesteps, moments = (to_device(tensor, self._device) for tensor in (drawn, timesteps, moments))
        return Batch(
            latents=torch.addcmul(moments[:, 0], moments[:, 1], drawn[:, 1]),
            noise=drawn[:, 0],
            timesteps=timesteps,
            captions=captions,
            sizes=[self._sizes[index] for index in indices],
            positions=[position for position, _ in places],
            masks=masks,
            weights=self._weights_of(indices),
            has_prior=has_prior,
            negatives=negatives if any(negatives) else (),
        )

    def _moments(self, bucket: tuple[int, int], numbers: Sequence[int]) -> torch.Tensor:
        """Means and standard deviations of entries of a bucket, shape ``(B, 2, C, h, w)``."""
        if self._stacked is None:
            return torch.stack([self._latents[number].moments for number in numbers])
        slots = torch.tensor([self._slots[number] for number in numbers])
        return self._stacked[bucket][to_device(slots, self._device)]

    def _weights_of(self, indices: Sequence[int]) -> torch.Tensor | None:
        if self._weights is None:
            return None
        return to_device(torch.tensor([self._weights[index] for index in indices]), self._device)


def _slots(entries: Sequence[LatentEntry]) -> list[int]:
    """The position of each entry among those of its bucket."""
    counts: dict[tuple[int, int], int] = {}
    slots = []
    for entry in entries:
        slots.append(counts.get(entry.bucket, 0))
        counts[entry.bucket] = slots[-1] + 1
    return slots


def _stacked(
    entries: Sequence[LatentEntry], items: Sequence[LatentItem], device: torch.device
) -> dict[tuple[int, int], torch.Tensor]:
    """Means and standard deviations per bucket, shape ``(n, 2, C, h, w)``, so that a batch is one lookup."""
    by_bucket: dict[tuple[int, int], list[torch.Tensor]] = {}
    for entry, item in zip(entries, items, strict=True):
        by_bucket.setdefault(entry.bucket, []).append(item.moments)
    stacked = {}
    for bucket, group in by_bucket.items():
        # Filled on the device, without a stack in main memory first.
        stacked[bucket] = torch.empty(len(group), *group[0].shape, device=device)
        for place, moments in zip(stacked[bucket], group, strict=True):
            place.copy_(moments)
    return stacked


def _stacked_masks(
    images: Sequence[DatasetImage], entries: Sequence[LatentEntry], floor: float, device: torch.device
) -> dict[tuple[int, int], torch.Tensor]:
    """Masks of the entries, ``(n + 1, 1, h, w)`` per bucket in the order of its latents; empty if no image has one.

    The last mask of each bucket is that of images without a mask: ones.

    Args:
        images: images of the dataset.
        entries: see :func:`latent_entries`.
        floor: smallest weight of a part.
        device: device of the masks.
    """
    if all(image.mask is None for image in images):
        return {}
    by_bucket: dict[tuple[int, int], list[torch.Tensor]] = {}
    for number, entry in enumerate(entries):
        by_bucket.setdefault(entry.bucket, []).append(mask_of(images[number % len(images)], entry, floor))
    return {bucket: torch.stack([*group, torch.ones_like(group[0])]).to(device) for bucket, group in by_bucket.items()}


def mask_of(image: DatasetImage, entry: LatentEntry, floor: float) -> torch.Tensor:
    """How much each latent cell of an image counts, fp32, shape ``(1, h, w)``; ones without a mask.

    Args:
        image: the image.
        entry: its entry, which may be mirrored.
        floor: smallest weight of a part.
    """
    width, height = entry.bucket
    if image.mask is None:
        return torch.ones(1, height // CELL, width // CELL)
    cells = torch.from_numpy(image.mask.cells)
    return (cells.flip(1) if entry.mirrored else cells).clamp(min=floor).unsqueeze(0)


def image_weight(image: DatasetImage, config: TrainConfig) -> float:
    """How much an image counts in the loss, > 0.

    Args:
        image: its subset is used.
        config: has the weight of regularization images.
    """
    is_regularization = image.subset.kind == REGULARIZATION
    return image.subset.loss_weight * (config.regularization_weight if is_regularization else 1.0)


def size_of(image: DatasetImage, bucket: tuple[int, int]) -> ImageSize:
    """The image's size for models with size conditioning; its bucket is (width, height) in px."""
    cut = crop(image.width, image.height, bucket)
    return ImageSize((image.height, image.width), (cut.top, cut.left), (bucket[1], bucket[0]))
