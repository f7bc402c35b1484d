"""Whether the embedded small model learns the same in every precision."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.events import Control, Event, StepDone
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.host.diffusers.model import load_model

__all__ = ["compare_precisions"]


class _Recorder:
    """Keeps the loss of each step, and counts the steps whose gradients were not finite."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.skipped = 0
        self.seconds: list[float] = []

    def handle(self, event: Event) -> None:
        """Record a step."""
        if isinstance(event, StepDone):
            self.losses.append(event.loss)
            self.seconds.append(event.seconds)
            self.skipped += not all(math.isfinite(norm) for norm in event.grad_norms.values())


def compare_precisions(folder: Path, device: torch.device, steps: int) -> dict[str, dict[str, Any]]:
    """Train the same run in fp32, fp16 and bf16.

    Args:
        folder: for model, images and results.
        device: where to train.
        steps: of each run.

    Returns:
        By precision: the mean loss of the last fifth of the steps, its difference from fp32 relative to that, the
        largest relative difference of a mean over ten steps, and the number of steps whose gradients were not finite.
    """
    checkpoint = materialize(folder / "model").a
    for name in tuple(CHARACTERS)[:2]:
        write_dataset(folder / "characters" / name, name)
    runs: dict[str, _Recorder] = {}
    for precision in ("fp32", "fp16", "bf16"):
        recorder = runs[precision] = _Recorder()
        where = folder / precision
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        model = load_model(checkpoint, precision=precision, device=device.type)
        config = _config(folder / "characters", steps)
        train(config, model, None, [recorder], Control(), Folders(where, where, where / "cache"))
    exact = runs["fp32"].losses
    return {precision: _compared(recorder, exact) for precision, recorder in runs.items()}


def _compared(recorder: _Recorder, exact: list[float]) -> dict[str, Any]:
    tail = max(1, len(exact) // 5)
    last, expected = (sum(losses[-tail:]) / tail for losses in (recorder.losses, exact))
    return {
        "loss": last,
        "difference": abs(last / expected - 1),
        "largest": max(abs(a / b - 1) for a, b in zip(_tens(recorder.losses), _tens(exact), strict=True)),
        "skipped": recorder.skipped,
        "ms": 1000 * sorted(recorder.seconds)[len(exact) // 2],
    }


def _tens(losses: list[float]) -> list[float]:
    return [sum(losses[at : at + 10]) / len(losses[at : at + 10]) for at in range(0, len(losses), 10)]


def _config(data: Path, steps: int) -> TrainConfig:
    return TrainConfig(
        concepts=tuple(Concept(name, "circle", vectors=8) for name in tuple(CHARACTERS)[:2]),
        data_folder=str(data),
        resolution=64,
        steps=steps,
        batch_size=8,
        rank=8,
        conv_rank=8,
        text_encoder_rank=4,
        lora_start=0.2,
        sample_every=0,
        save_every=0,
        output_name="precision",
    )
