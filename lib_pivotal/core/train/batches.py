"""The batches of a step: latents, noise, timesteps and captions of its items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.bucket import bucket_for, crop
from lib_pivotal.core.data.latents import LatentEntry, LatentItem
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.diffusion.item_random import item_seed
from lib_pivotal.core.diffusion.noise import item_noise
from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.to_device import to_device
from lib_pivotal.core.train.step_items import StepItems

__all__ = ["Batch", "Batcher", "latent_entries"]

_ON_DEVICE_BYTES = 256 * 2**20
"""Latents stay on the device up to this size."""


@dataclass(frozen=True)
class Batch:
    """Items that go through the UNet together.

    Attributes:
        latents: fp32 on the device, shape ``(B, C, h, w)``.
        noise: same shape.
        timesteps: int64 on the device, shape ``(B,)``.
        captions: one per item.
        sizes: one per item.
        masks: how much each latent cell counts, ≥ 0, shape ``(B, 1, h, w)``; None weights all equally.
        weights: how much each item counts, ≥ 0, shape ``(B,)``; None weights all equally.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    captions: list[str]
    sizes: list[ImageSize]
    masks: torch.Tensor | None = None
    weights: torch.Tensor | None = None


def latent_entries(images: Sequence[DatasetImage], resolution: int, *, flip: bool) -> list[LatentEntry]:
    """The images to encode, each in its bucket; with ``flip``, followed by their mirror images.

    Args:
        images: images of the dataset.
        resolution: side of the square bucket in px.
        flip: whether to train on mirror images, too.
    """
    plain = [
        LatentEntry(
            image.path,
            bucket_for(image.width, image.height, resolution),
            mirrored=False,
            sha256=image.sha256,
            shown=image.shown,
        )
        for image in images
    ]
    return plain + ([replace(entry, mirrored=True) for entry in plain] if flip else [])


class Batcher:
    """Makes the batches of any step. Steps may be requested in any order and always give the same batches.

    Args:
        images: images of the dataset.
        entries: see :func:`latent_entries`.
        items: latents of the entries, in the same order.
        config: settings.
        timestep_count: number of timesteps of the noise schedule.
        device: device of the batches.
        rank: index of this process.
        processes: number of processes that train together.
        steps: number of steps of the run, which tag warm-up depends on; 0 trains all tags from the beginning.
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
        rank: int = 0,
        processes: int = 1,
        steps: int = 0,
    ) -> None:
        self._config = config
        self._device = device
        self._timestep_count = timestep_count
        self._per_process = config.batch_size * config.accumulation
        self._first = rank * self._per_process
        self._items = StepItems(images, config, self._per_process * processes, steps)
        buckets = [entry.bucket for entry in entries[: len(images)]]
        self._sizes = [_size(image, bucket) for image, bucket in zip(images, buckets, strict=True)]
        size = sum(item.mean.numel() * 8 for item in items)
        self._home = device if size <= _ON_DEVICE_BYTES else torch.device("cpu")
        self._latents: dict[tuple[int, int], torch.Tensor] = {}
        self._slots: list[int] = []
        self._stack(entries, items)
        self._buckets = buckets

    def _stack(self, entries: Sequence[LatentEntry], items: Sequence[LatentItem]) -> None:
        """Stack means and standard deviations into one ``(n, 2, C, h, w)`` tensor per bucket; a batch is one lookup."""
        by_bucket: dict[tuple[int, int], list[torch.Tensor]] = {}
        for entry, item in zip(entries, items, strict=True):
            group = by_bucket.setdefault(entry.bucket, [])
            self._slots.append(len(group))
            group.append(torch.stack([item.mean, item.std]))
        self._latents = {bucket: torch.stack(group).to(self._home) for bucket, group in by_bucket.items()}

    def step(self, number: int) -> list[Batch]:
        """Batches of step ``number`` (0 …) for this process, ``accumulation`` of them."""
        indices = self._items.images_of(number)[self._first : self._first + self._per_process]
        size = self._config.batch_size
        return [
            self._batch(number, self._first + start, indices[start : start + size])
            for start in range(0, self._per_process, size)
        ]

    def _batch(self, step: int, first: int, indices: Sequence[int]) -> Batch:
        latents = self._latents[self._buckets[indices[0]]]
        shape = tuple(latents.shape[2:])
        noises, slots, captions = [], [], []
        for position, index in enumerate(indices, start=first):
            item, rng = item_noise(item_seed(self._config.seed, step, position), shape, self._timestep_count)
            is_mirrored, caption = self._items.draw(index, step, rng)
            slots.append(self._slots[index + len(self._sizes) * is_mirrored])
            captions.append(caption.text)
            noises.append(item)
        drawn = torch.stack([torch.stack([item.noise, item.posterior]) for item in noises])
        timesteps = torch.tensor([item.timestep for item in noises])
        moments = latents[to_device(torch.tensor(slots), self._home)]
        drawn, timesteps, moments = (to_device(tensor, self._device) for tensor in (drawn, timesteps, moments))
        return Batch(
            latents=torch.addcmul(moments[:, 0], moments[:, 1], drawn[:, 1]),
            noise=drawn[:, 0],
            timesteps=timesteps,
            captions=captions,
            sizes=[self._sizes[index] for index in indices],
        )


def _size(image: DatasetImage, bucket: tuple[int, int]) -> ImageSize:
    cut = crop(image.width, image.height, bucket)
    return ImageSize((image.height, image.width), (cut.top, cut.left), (bucket[1], bucket[0]))
