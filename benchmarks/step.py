"""Compares a training step with the bare frozen UNet, on the small model: ``python run.py bench step``.

Both run alternately in this process, with the same latents, timesteps and caption length: first only the frozen UNet
(forward, and backward to its text conditioning), then the engine's complete step: captions, text encoder with trained
vectors, UNet with LoRA, loss, gradient clipping and AdamW. Prints the medians and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.setup import prepare
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.host.diffusers.model import load_model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--resolution", type=int, default=64, help="side of the images in px")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=6, help="steps per round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bare, engine = _measure(Path(folder), options)
    ratio = statistics.median(e / b for b, e in zip(bare, engine, strict=False))
    lines = [
        f"device {torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'}, torch {torch.__version__}, "
        f"threads {torch.get_num_threads()}, {options.resolution} px, batch {options.batch}, rank {options.rank}",
        f"bare frozen UNet, forward and backward: {1000 * statistics.median(bare):8.1f} ms/step",
        f"engine, complete step:                  {1000 * statistics.median(engine):8.1f} ms/step",
        f"ratio (median of {options.rounds} pairs):            {ratio:8.2f}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _measure(folder: Path, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Seconds per step of both, one value per round."""
    model = load_model(materialize(folder / "model").a)
    for name in list(CHARACTERS)[:2]:
        write_dataset(folder / "data" / name, name)
    config = TrainConfig(
        concepts=tuple(Concept(name, "circle") for name in list(CHARACTERS)[:2]),
        data_folder=str(folder / "data"),
        resolution=options.resolution,
        batch_size=options.batch,
        rank=options.rank,
        steps=100_000,
        # Otherwise only the embeddings would train for the first fifth of the steps, without a LoRA to measure.
        lora_start=0.0,
        sample_every=0,
        output_name="bench",
    )
    setup = prepare(
        config,
        model,
        cache=folder,
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )
    loop = Loop(setup, None, lambda _: None, Control(), SingleProcess())
    batch = setup.batcher.step(0)[0]
    with torch.no_grad():
        embeddings = EmbeddingWeights.of(setup.embeddings(), model.device)
        condition = TextConditioner(model, embeddings).encode(batch.captions, batch.sizes)[0].conditioning
    condition = condition.detach().requires_grad_(True)

    def bare_step() -> None:
        condition.grad = None
        with model.autocast():
            output = model.predict(batch.latents, batch.timesteps, condition)
        output.pow(2).mean().backward()

    counter = iter(range(10**9))
    bare, engine = [], []
    for number in range(options.rounds + 1):
        seconds_bare = _time(bare_step, options.steps)
        with setup.attached():
            seconds_engine = _time(lambda: loop.train_step(next(counter)), options.steps)
        if not setup.adapters or not all(lora.enabled for lora in setup.adapters):
            raise SystemExit("The LoRA is not enabled, so this would not be a complete step.")
        if number:  # the first round warms up
            bare.append(seconds_bare)
            engine.append(seconds_engine)
    return bare, engine


def _time(action, steps: int) -> float:  # type: ignore[no-untyped-def]
    """Mean seconds per call of an action."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


if __name__ == "__main__":
    main()
