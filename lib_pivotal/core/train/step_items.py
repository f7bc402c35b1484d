"""Which images a step trains on, mirrored or not, and with which captions; needs no model."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.bucket import bucket_for
from lib_pivotal.core.data.caption import DrawnCaption
from lib_pivotal.core.data.folder_captions import caption_makers
from lib_pivotal.core.data.plan import Plan
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["StepItems"]


class StepItems:
    """The items of any step. Steps may be requested in any order and always have the same items.

    Args:
        images: images of the dataset.
        config: settings.
        items_per_step: number of items of a step, over all batches and processes.
        steps: number of steps of the run, which tag warm-up depends on; 0 trains all tags from the beginning.
    """

    def __init__(self, images: Sequence[DatasetImage], config: TrainConfig, items_per_step: int, steps: int) -> None:
        makers = caption_makers(images, config)
        self._captions = [(makers[image.subset], image.caption or "") for image in images]
        self._flip = config.flip
        self._warmup = config.tag_warmup * steps
        buckets = [bucket_for(image.width, image.height, config.resolution) for image in images]
        repeats = [max(1, round(image.repeats)) for image in images]
        self._plan = Plan(buckets, repeats, items_per_step, config.seed)

    def images_of(self, step: int) -> tuple[int, ...]:
        """Indices of the images of step ``step`` (0 …)."""
        return self._plan.step(step)

    def draw(self, index: int, step: int, rng: random.Random) -> tuple[bool, DrawnCaption]:
        """Whether an image is mirrored, and its caption.

        Args:
            index: of the image.
            step: 0 …
            rng: of the item, see ``core.diffusion.item_random.item_random``.
        """
        is_mirrored = self._flip and rng.random() < 0.5
        maker, caption = self._captions[index]
        return is_mirrored, maker.draw(caption, rng, self.progress(step))

    def progress(self, step: int) -> float:
        """Progress of the tag warm-up at a step (0 …): 0 … 1."""
        return min(1.0, step / self._warmup) if self._warmup > 0 else 1.0
