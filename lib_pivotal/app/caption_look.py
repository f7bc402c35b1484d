"""What captions become in training, and which of their tags belong to the names."""

from __future__ import annotations

from typing import Any

from lib_pivotal.app.ports import AppHost
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.train.caption_preview import CaptionPreview

__all__ = ["caption_preview", "core_tags"]


def caption_preview(
    host: AppHost, config: TrainConfig, *, step: int = 1, image: str | None = None, count: int = 100
) -> dict[str, Any]:
    """Captions as they are trained, see ``core.train.caption_preview``; values serializable as JSON.

    Args:
        host: the webui.
        config: the settings.
        step: from 1.
        image: show how the caption of this image varies from this step on; None shows the step.
        count: number of draws of the image.

    Raises:
        ConfigError: the images cannot be read, or there is no such step or image.
    """
    dataset = read_dataset(config, cache=host.data_root() / "cache")
    preview = CaptionPreview(dataset, config, host.tokenizer(), family=host.family(config))
    if image is None:
        return {"step": step, "captions": preview.step(step)}
    return preview.image(image, count, step)


def core_tags(host: AppHost, config: TrainConfig, *, is_chosen: bool = False) -> dict[str, Any]:
    """Suggestions of core tags, as ``core.core_tags.report.as_plain`` returns them.

    Args:
        host: the webui.
        config: the settings.
        is_chosen: whether the core tags of the settings have been chosen and are shown in captions.

    Raises:
        ConfigError: the data folder or the user's classes of tags cannot be read.
    """
    from lib_pivotal.core.core_tags.report import as_plain
    from lib_pivotal.core.core_tags.suggestion import suggest
    from lib_pivotal.core.core_tags.tag_classes import load_tag_classes

    root = host.data_root()
    classes = load_tag_classes(root)
    dataset = read_dataset(config, cache=root / "cache")
    if any(problem.is_error for problem in dataset.problems):
        raise ConfigError(list(dataset.problems))
    images = dataset.usable
    suggestions = suggest(config, images, classes, host.tokenizer())
    return as_plain(suggestions, config, images, is_chosen=is_chosen)
