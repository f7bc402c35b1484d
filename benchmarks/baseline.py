"""The settings that the benchmarks on the embedded small model have in common."""

from __future__ import annotations

from pathlib import Path

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.demo.__main__ import INIT_TEXT, NAMES

__all__ = ["baseline"]


def baseline(checkpoint: Path, data: Path, steps: int, *, is_control: bool = False) -> TrainConfig:
    """The product's learning rates and loss, with a LoRA small and late enough for runs of a few hundred steps.

    Every table says what its rows change; "preset for characters" in ``bench methods`` is what users get.

    Args:
        checkpoint: of the small model.
        data: folder with images of the demo's two characters.
        steps: of the run.
        is_control: whether the characters' names are just rare words, without embeddings.
    """
    return TrainConfig(
        checkpoint=str(checkpoint),
        concepts=() if is_control else tuple(Concept(name, INIT_TEXT, vectors=8, stop_at=0.5) for name in NAMES),
        data_folder=str(data),
        resolution=64,
        steps=steps,
        batch_size=8,
        rank=8,
        alpha=8.0,
        conv_rank=8,
        text_encoder_rank=4,
        lora_start=0.4,
        sample_every=0,
        output_name="control" if is_control else "demo",
        if_exists="overwrite",
    )
