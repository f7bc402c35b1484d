"""Which images of a data set go through the training steps."""

from __future__ import annotations

from collections.abc import Sequence

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import REGULARIZATION, TRAIN
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["images_of_kind", "images_of_steps", "regularization_share"]


def images_of_kind(images: Sequence[DatasetImage], kind: str) -> list[DatasetImage]:
    """The images of a kind, in their order.

    Args:
        images: images of the data set.
        kind: one of the kinds in ``core.config.subset``.
    """
    return [image for image in images if image.subset.kind == kind]


def regularization_share(images: Sequence[DatasetImage], config: TrainConfig) -> float:
    """Share of the samples that are regularization images, 0 … 1.

    It is 0 without a LoRA: embeddings alone change nothing where the captions have no names.

    Args:
        images: images of the data set.
        config: the share and the ranks are used.
    """
    has_lora = config.rank or config.conv_rank or config.text_encoder_rank
    return config.regularization_share if has_lora and images_of_kind(images, REGULARIZATION) else 0.0


def images_of_steps(images: Sequence[DatasetImage], config: TrainConfig) -> tuple[DatasetImage, ...]:
    """The images that the steps use: training images, and regularization images if they have a share.

    Args:
        images: images of the data set.
        config: see :func:`regularization_share`.
    """
    kinds = (TRAIN, REGULARIZATION) if regularization_share(images, config) else (TRAIN,)
    return tuple(image for image in images if image.subset.kind in kinds)
