"""The images of a run and their latents; one process reads and encodes them for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.dataset_report import DatasetReport, read_dataset
from lib_pivotal.core.data.kinds import images_of_steps
from lib_pivotal.core.data.latent_store import LatentItem, LatentStore
from lib_pivotal.core.data.latents import LatentEntry, encode_all
from lib_pivotal.core.data.mask import Mask
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.validation_images import images_to_measure
from lib_pivotal.core.errors import DatasetError, Interrupted, PivotalError
from lib_pivotal.core.ports import VAE
from lib_pivotal.core.process_group import ProcessGroup
from lib_pivotal.core.train.batches import latent_entries

__all__ = ["TrainingData", "ValidationData", "load_training_data"]

_SENT_TOGETHER = 32
"""Number of items sent to the other processes at a time; on a GPU they pass through its memory."""


@dataclass(frozen=True)
class ValidationData:
    """Images that are only measured, and their latents.

    Attributes:
        images: the images.
        entries: one per image.
        items: latents of the entries, in the same order.
    """

    images: Sequence[DatasetImage] = ()
    entries: Sequence[LatentEntry] = ()
    items: Sequence[LatentItem] = ()


@dataclass(frozen=True)
class TrainingData:
    """Images and latents of a run, the same in every process except for ``validation``.

    Attributes:
        images: images of the steps, see :func:`lib_pivotal.core.data.kinds.images_of_steps`.
        entries: see :func:`lib_pivotal.core.train.batches.latent_entries`.
        items: latents of the entries, in the same order.
        digest: changes when images or captions change.
        validation: what the first process measures; empty in the others.
    """

    images: Sequence[DatasetImage]
    entries: list[LatentEntry]
    items: list[LatentItem]
    digest: str
    validation: ValidationData = field(default_factory=ValidationData)


def load_training_data(
    config: TrainConfig,
    vae: VAE,
    dataset: DatasetReport | None,
    *,
    cache: Path,
    group: ProcessGroup,
    progress: Callable[[int, int], None],
    stopped: Callable[[], bool],
    batch_size: int | None = None,
) -> TrainingData:
    """Encode the images in the first process and send images and latents to the others.

    Args:
        config: checked settings.
        vae: the VAE.
        dataset: result of the check; None reads the folder here. Only the first process needs it.
        cache: folder of stored latents.
        group: the processes that train together.
        progress: called with (done, total).
        stopped: polled regularly; returns whether to stop.
        batch_size: number of images of one bucket to encode together; None for that of the steps.

    Raises:
        DatasetError: an image turned out unusable.
        Interrupted: ``stopped`` returned True.
        PivotalError: the first process failed.
    """
    if group.rank:
        return _received(config, group, LatentStore(cache))
    try:
        data = _encoded(config, vae, dataset, cache, progress, stopped, batch_size or config.batch_size)
    except Exception as error:
        # Otherwise the other processes would wait forever.
        is_clear = isinstance(error, (DatasetError, Interrupted))
        group.from_first(error if is_clear else PivotalError(f"The first process failed: {error}."))
        raise
    group.from_first(None)
    if group.size > 1:
        _send(data, group)
    return data


def _send(data: TrainingData, group: ProcessGroup) -> None:
    # Masks are as large as a channel of latents and are sent like these.
    group.from_first((tuple(replace(image, mask=None) for image in data.images), data.digest))
    _send_all(data.items, group)
    _send_all([image.mask for image in data.images], group)


def _send_all(values: Sequence[object], group: ProcessGroup) -> None:
    for start in range(0, len(values), _SENT_TOGETHER):
        group.from_first(values[start : start + _SENT_TOGETHER])


def _encoded(
    config: TrainConfig,
    vae: VAE,
    dataset: DatasetReport | None,
    cache: Path,
    progress: Callable[[int, int], None],
    stopped: Callable[[], bool],
    batch_size: int,
) -> TrainingData:
    dataset = dataset or read_dataset(config, cache=cache)
    images = images_of_steps(dataset.usable, config)
    entries = latent_entries(images, config.resolution, flip=config.flip, background=config.background)
    measured = images_to_measure(dataset.usable, dataset.copies, config)
    measured_entries = latent_entries(measured, config.resolution, flip=False, background=config.background)
    items = encode_all(
        [*entries, *measured_entries],
        vae,
        batch_size=batch_size,
        folder=cache if config.cache_to_disk else None,
        progress=progress,
        stopped=stopped,
        kept=dataset.kept,
        store=LatentStore(cache),
    )
    if dataset.kept is not None:
        dataset.kept.clear()
    count = len(entries)
    validation = ValidationData(measured, measured_entries, items[count:])
    return TrainingData(images, entries, items[:count], dataset.digest(), validation)


def _received(config: TrainConfig, group: ProcessGroup, store: LatentStore) -> TrainingData:
    failure: PivotalError | None = group.from_first(None)
    if failure is not None:
        raise failure
    shared: tuple[Sequence[DatasetImage], str] = group.from_first(((), ""))
    bare, digest = shared
    entries = latent_entries(bare, config.resolution, flip=config.flip, background=config.background)
    items = [store.keep(item.mean, item.std) for item in _receive(len(entries), group)]
    masks: list[Mask | None] = list(_receive(len(bare), group))
    images = tuple(replace(image, mask=mask) for image, mask in zip(bare, masks, strict=True))
    return TrainingData(images, entries, items, digest)


def _receive(count: int, group: ProcessGroup) -> Iterator[Any]:
    while count:
        values: list[Any] = group.from_first([])
        count -= len(values)
        yield from values
