"""Shows captions as they are trained, without a model: those of a step, and how one image's caption varies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.caption import EMPTY, FULL, NAMES, DrawnCaption
from lib_pivotal.core.data.caption_parts import Part
from lib_pivotal.core.data.caption_settings import caption_setting_problems
from lib_pivotal.core.data.dataset_report import DatasetReport
from lib_pivotal.core.data.image_shares import share_images
from lib_pivotal.core.data.kinds import images_of_steps
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.token_count import TokenCounter, chunks_of
from lib_pivotal.core.diffusion.item_random import item_random, item_seed
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.train.setting_checks import check_settings
from lib_pivotal.core.train.step_count import total_steps
from lib_pivotal.core.train.step_items import StepItems

__all__ = ["MAX_DRAWS", "CaptionPreview"]

MAX_DRAWS = 10_000

_TIMESTEPS = 1000
"""All supported models have this many; an item's first random number is its timestep."""


class CaptionPreview:
    """The captions of a run, the same that the training uses.

    Args:
        dataset: the images.
        config: settings.
        tokenizer: text → token ids; None counts no tokens.
        family: family of the model, see ``core.families``; empty if it is not known.
        processes: number of processes that train together.

    Raises:
        ConfigError: the settings cannot be used, or there are no images.
    """

    def __init__(
        self,
        dataset: DatasetReport,
        config: TrainConfig,
        tokenizer: Callable[[str], list[int]] | None = None,
        *,
        family: str = "",
        processes: int = 1,
    ) -> None:
        found = [*check_settings(config), *caption_setting_problems(config), *dataset.problems]
        problems = [problem for problem in found if problem.is_error]
        if not problems and not dataset.usable:
            problems = [Problem("data_folder", "error", "There are no images that can be used.", "Check the folder.")]
        if problems:
            raise ConfigError(problems)
        self._images: Sequence[DatasetImage] = images_of_steps(dataset.usable, config)
        self._seed = config.seed
        self._count = config.batch_size * config.accumulation * processes
        shares = share_images(self._images, config)
        steps = total_steps(config, shares, family, processes=processes)
        self._items = StepItems(self._images, config, self._count, steps, shares.weights)
        self._counter = None if tokenizer is None else TokenCounter(tokenizer, config.concepts)

    def step(self, number: int) -> list[dict[str, Any]]:
        """What a step trains on, in the order of its items.

        Args:
            number: the step, counted from 1 as in the log of a run.

        Returns:
            For each item ``image``, ``is_mirrored``, ``kind`` (full, names or empty), ``text``, and with a tokenizer
            ``tokens`` and ``chunks``; serializable as JSON.

        Raises:
            ConfigError: there is no such step.
        """
        _check("step", number, 1_000_000)
        items = []
        for slot, index in enumerate(self._items.images_of(number - 1)):
            is_mirrored, caption = self._draw(index, number - 1, slot)
            items.append({"image": self._images[index].shown, "is_mirrored": is_mirrored, **self._facts(caption)})
        return items

    def image(self, name: str, count: int, first_step: int = 1) -> dict[str, Any]:
        """How the caption of an image varies: its draws as the first item of successive steps.

        Args:
            name: path in its folder, as shown in messages, or the file's name.
            count: number of draws, at most 10,000.
            first_step: from 1; matters during the tag warm-up.

        Returns:
            ``image``, ``caption`` as in its file, ``draws`` as in :meth:`step`, ``kinds``: kind → share of the draws,
            and ``rates``: tag → share of the draws that contain it, 0 for removed tags; serializable as JSON.

        Raises:
            ConfigError: there is no such image, or a number is out of range.
        """
        _check("count", count, MAX_DRAWS)
        _check("step", first_step, 1_000_000)
        index = self._index(name)
        drawn = [self._draw(index, first_step - 1 + number, 0)[1] for number in range(count)]
        kinds = Counter(caption.kind for caption in drawn)
        tags = Counter(tag for caption in drawn for tag in set(caption.tags))
        removed = {tag: 0.0 for caption in drawn for tag in caption.removed}
        return {
            "image": self._images[index].shown,
            "caption": self._images[index].caption or "",
            "draws": [self._facts(caption) for caption in drawn],
            "kinds": {kind: kinds[kind] / count for kind in (FULL, NAMES, EMPTY)},
            "rates": {**removed, **{tag: number / count for tag, number in sorted(tags.items(), key=_most_often)}},
        }

    def marked(self, name: str, count: int, first_step: int = 1) -> list[dict[str, Any]]:
        """Like the draws of :meth:`image`, with the parts of each caption.

        Args:
            name: likewise.
            count: likewise.
            first_step: likewise.

        Returns:
            For each draw ``step``, what :meth:`step` says about a caption, and ``parts``: each with ``text``,
            ``mark`` (name, alias, kept, tail, dropped, removed or empty) and ``written``, which differs from the text
            only for an alias; serializable as JSON.

        Raises:
            ConfigError: likewise.
        """
        _check("count", count, MAX_DRAWS)
        _check("step", first_step, 1_000_000)
        index = self._index(name)
        draws = []
        for step in range(first_step, first_step + count):
            _, caption = self._draw(index, step - 1, 0)
            draws.append({"step": step, **self._facts(caption), "parts": _marked_parts(caption)})
        return draws

    def _draw(self, index: int, step: int, slot: int) -> tuple[bool, DrawnCaption]:
        _, rng = item_random(item_seed(self._seed, step, slot), _TIMESTEPS)
        return self._items.draw(index, step, rng)

    def _facts(self, caption: DrawnCaption) -> dict[str, Any]:
        facts: dict[str, Any] = {"kind": caption.kind, "text": caption.text}
        if self._counter is not None:
            tokens = self._counter.count(caption.text)
            facts.update(tokens=tokens, chunks=chunks_of(tokens))
        return facts

    def _index(self, name: str) -> int:
        found = [index for index, image in enumerate(self._images) if image.shown == name]
        found = found or [index for index, image in enumerate(self._images) if image.path.name == name]
        if not found:
            text = f"There is no image {name!r} that can be used."
            raise ConfigError([Problem("image", "error", text, "Give its path within the image folder.")])
        return found[0]


def _marked_parts(caption: DrawnCaption) -> list[dict[str, str]]:
    """The parts of a caption that are trained, then those that are not."""
    head, tail = {id(part) for part in caption.origin.head}, {id(part) for part in caption.origin.tail}

    def mark(part: Part) -> str:
        if part.names:
            return "alias" if part.written else "name"
        return "tail" if id(part) in tail else "kept" if id(part) in head or part.is_protected else ""

    trained = {id(part) for part in caption.parts}
    all_parts = [*caption.origin.head, *caption.origin.flexible, *caption.origin.tail]
    # Names that stand alone have taken the place of the parts with names.
    left = [part for part in all_parts if id(part) not in trained and (caption.kind != NAMES or not part.names)]
    parts = [{"text": part.text, "mark": mark(part), "written": part.written or part.text} for part in caption.parts]
    parts += [{"text": part.text, "mark": "dropped", "written": part.text} for part in left]
    return parts + [{"text": tag, "mark": "removed", "written": tag} for tag in caption.removed]


def _check(field: str, number: int, most: int) -> None:
    if not 1 <= number <= most:
        raise ConfigError([Problem(field, "error", f"{number} is out of range.", f"Use 1 to {most}.")])


def _most_often(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
