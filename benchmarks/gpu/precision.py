"""Whether the embedded small model learns the same in every precision."""

from __future__ import annotations

import json
import math
import subprocess
import sys
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

_ROOT = Path(__file__).resolve().parents[2]
_PRECISIONS = ("fp32", "fp16", "bf16")


class _Recorder:
    """Keeps the loss of each step, and counts the steps whose gradients were not finite."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.skipped = 0

    def handle(self, event: Event) -> None:
        """Record a step."""
        if isinstance(event, StepDone):
            self.losses.append(event.loss)
            self.skipped += not all(math.isfinite(norm) for norm in event.grad_norms.values())


def compare_precisions(folder: Path, device: str, steps: int) -> dict[str, dict[str, Any]]:
    """Train the same run in fp32, fp16 and bf16, all at the same time: a small model leaves most of a GPU idle.

    Args:
        folder: for model, images and results.
        device: where to train.
        steps: of each run.

    Returns:
        By precision: the mean loss of the last fifth of the steps, its difference from fp32 relative to that, the
        largest relative difference of a mean over ten steps, and the number of steps whose gradients were not finite.

    Raises:
        RuntimeError: a run failed; its error is on the console.
    """
    materialize(folder / "model")
    for name in tuple(CHARACTERS)[:2]:
        write_dataset(folder / "characters" / name, name)
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.precision", str(folder), precision, device, str(steps)], cwd=_ROOT
        )
        for precision in _PRECISIONS
    ]
    failed = [precision for precision, run in zip(_PRECISIONS, runs, strict=True) if run.wait()]
    if failed:
        raise RuntimeError(f"training in {', '.join(failed)} failed")
    found = {
        precision: json.loads((folder / f"{precision}.json").read_text(encoding="utf-8")) for precision in _PRECISIONS
    }
    return {precision: _compared(values, found["fp32"]["losses"]) for precision, values in found.items()}


def _compared(values: dict[str, Any], exact: list[float]) -> dict[str, Any]:
    losses = values["losses"]
    tail = max(1, len(exact) // 5)
    last, expected = (sum(series[-tail:]) / tail for series in (losses, exact))
    return {
        "loss": last,
        "difference": abs(last / expected - 1),
        "largest": max(abs(a / b - 1) for a, b in zip(_tens(losses), _tens(exact), strict=True)),
        "skipped": values["skipped"],
        "steps": len(losses),
    }


def _tens(losses: list[float]) -> list[float]:
    """Means over ten steps each."""
    return [sum(losses[at : at + 10]) / len(losses[at : at + 10]) for at in range(0, len(losses), 10)]


def _train(folder: Path, precision: str, device: str, steps: int) -> None:
    """Train in one precision and write what was recorded."""
    # Networks this small finish before a second thread has started.
    torch.set_num_threads(1)
    recorder = _Recorder()
    where = folder / precision
    where.mkdir()
    model = load_model(materialize(folder / "model").a, precision=precision, device=device)
    config = _config(folder / "characters", steps)
    train(config, model, None, [recorder], Control(), Folders(where, where, where / "cache"))
    (folder / f"{precision}.json").write_text(json.dumps(vars(recorder)), encoding="utf-8")


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


if __name__ == "__main__":
    _train(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
