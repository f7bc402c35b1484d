"""Which images a step trains on, mirrored or not, and with which captions; needs no model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import REGULARIZATION
from lib_pivotal.core.core_tags.pruning import pruner_for
from lib_pivotal.core.data.bucket import bucket_for
from lib_pivotal.core.data.caption import DrawnCaption
from lib_pivotal.core.data.class_words import class_noun, with_words
from lib_pivotal.core.data.folder_captions import caption_makers
from lib_pivotal.core.data.kinds import regularization_share
from lib_pivotal.core.data.mixture import Mixture
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["StepItems"]


class StepItems:
    """The items of any step. Steps may be requested in any order and always have the same items.

    Args:
        images: images of the dataset.
        config: settings.
        items_per_step: number of items of a step, over all batches and processes.
        steps: number of steps of the run, which tag warm-up depends on; 0 trains all tags from the beginning.
        weights: how often each image is used, relative to the others; None uses its repeats.

    Attributes:
        has_prior: per image, whether its target is what the unchanged model predicts.
    """

    def __init__(
        self,
        images: Sequence[DatasetImage],
        config: TrainConfig,
        items_per_step: int,
        steps: int,
        weights: Sequence[float] | None = None,
    ) -> None:
        is_regularization = [image.subset.kind == REGULARIZATION for image in images]
        self.has_prior = [config.regularization_target == "prior" and value for value in is_regularization]
        makers = caption_makers(images, config, pruner_for(config, images))
        # Core tags describe what the class alone does not say.
        bare = [replace(concept, core_tags=()) for concept in config.concepts]
        prior_makers = caption_makers(images, replace(config, concepts=tuple(with_words(bare, class_noun))))
        self._captions = [
            ((prior_makers if has_prior else makers)[image.subset], image.caption or "")
            for image, has_prior in zip(images, self.has_prior, strict=True)
        ]
        self._flip = config.flip
        self._warmup = config.tag_warmup * steps
        self._plan = Mixture(
            [bucket_for(image.width, image.height, config.resolution) for image in images],
            weights or [image.repeats for image in images],
            is_regularization,
            share=regularization_share(images, config),
            items_per_step=items_per_step,
            seed=config.seed,
        )

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
