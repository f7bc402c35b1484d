"""What a bundle is recorded with: training images that mention its names, or prompts made of its names."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib_pivotal.core.bundle.metadata import own_metadata
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.config.user_path import bare_path, check_path
from lib_pivotal.core.core_tags.pruning import pruner_for
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.folder_captions import caption_makers
from lib_pivotal.core.data.latents import encode_all
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.fuse.model_run import TrainedImage
from lib_pivotal.core.fuse.source import FuseSource
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.core.printable import printable
from lib_pivotal.core.textual_inversion.prompt_chunks import PromptChunker
from lib_pivotal.core.train.batches import latent_entries, size_of

__all__ = ["images_of", "prompts_of"]

_IMAGES = 16
_SAMPLES = 8
_MAX_SAMPLES = 32
_SETTINGS = ("simple background", "outdoors")


def prompts_of(source: FuseSource) -> list[str]:
    """A prompt per sample: every name alone, with its core tags, and in a few settings."""
    forms = []
    for name in source.names:
        tags = source.core_tags.get(name, ())
        forms.append([name, *([", ".join([name, *tags])] if tags else []), *(f"{name}, {text}" for text in _SETTINGS)])
    count = min(max(_SAMPLES, len(forms)), _MAX_SAMPLES)
    return [forms[number % len(forms)][number // len(forms) % len(forms[0])] for number in range(count)]


def images_of(
    source: FuseSource,
    folder: str,
    model: DiffusionModel,
    *,
    progress: Callable[[int, int], None],
    stopped: Callable[[], bool],
) -> list[TrainedImage]:
    """Some images whose captions mention a name of the bundle, with the captions that a training would use.

    Args:
        source: the bundle; the settings in its metadata say how captions are read.
        folder: as the user typed it.
        model: encodes the images.
        progress: called with (done, total) images.
        stopped: polled regularly; returns whether to stop.

    Raises:
        ConfigError: the folder cannot be read, or no caption mentions a name.
        DatasetError: an image cannot be used.
        Interrupted: ``stopped`` returned True.
    """
    config = _config_of(source, folder, model)
    problems = check_path("data_folder", bare_path(folder))
    dataset = None if problems else read_dataset(config)
    problems += [problem for problem in dataset.problems if problem.is_error] if dataset is not None else []
    if dataset is None or problems:
        raise ConfigError(problems)
    chosen = _chosen(source, config, dataset.usable, model)
    if not chosen:
        text = f"No caption of an image in this folder has a name of {printable(source.path.name)}."
        hint = (
            f"Choose the folder it was trained on, whose captions have {', '.join(map(printable, source.names[:5]))}."
        )
        raise ConfigError([Problem("data_folder", "error", text, hint)])
    images = [image for image, _ in chosen]
    entries = latent_entries(images, config.resolution, flip=False, background=config.background)
    items = encode_all(entries, model.vae, batch_size=1, folder=None, progress=progress, stopped=stopped)
    return [
        TrainedImage(item.mean, caption, size_of(image, entry.bucket))
        for (image, caption), entry, item in zip(chosen, entries, items, strict=True)
    ]


def _chosen(
    source: FuseSource, config: TrainConfig, images: tuple[DatasetImage, ...], model: DiffusionModel
) -> list[tuple[DatasetImage, str]]:
    """Evenly chosen images that mention a name, each with a caption."""
    layout = {name: (number, 1) for number, name in enumerate(source.names)}
    chunker = PromptChunker(model.text_encoders[0], layout)
    makers = caption_makers(images, config, pruner_for(config, images))
    rng = random.Random(0)
    named = []
    for image in images:
        caption = makers[image.subset].draw(image.caption or "", rng, 1.0).text
        if chunker.chunk(caption).vectors:
            named.append((image, caption))
    count = min(len(named), _IMAGES)
    return [named[number * len(named) // count] for number in range(count)]


def _config_of(source: FuseSource, folder: str, model: DiffusionModel) -> TrainConfig:
    """The settings of the run that wrote the bundle, as far as they are known and still apply."""
    settings: Any = own_metadata(source.bundle.metadata).get("settings")
    config = read_dict(settings)[0] if isinstance(settings, dict) else TrainConfig(resolution=model.native_resolution)
    known = {concept.name: concept for concept in config.concepts}
    concepts = tuple(known.get(name, Concept(name)) for name in source.names)
    plain = TrainConfig()
    return replace(
        config,
        data_folder=str(Path(bare_path(folder)).expanduser()),
        concepts=concepts,
        subsets=(),
        masks=plain.masks,
        caption_dropout=0.0,
        tag_dropout=0.0,
        validation_share=0.0,
        flip=False,
    )
