"""Compares training steps with the bare frozen UNet, without a GPU: ``python run.py bench step``.

In each round, one after the other in this process and on one thread: the bare UNet (forward, and backward to its text
conditioning), without and with the text encoder, which no embedding can be trained without; the engine's complete step
with LoRA and embeddings: captions, text encoder with trained vectors, UNet, loss, gradient clipping and AdamW, also in
the three modes that need less memory; and, if peft is installed, steps
as in the scripts of diffusers, with a LoRA of peft on the same layers, and with a LoRA and new tokens. Prints the
medians of the CPU time, and of its ratio to the bare UNet's in the same round.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu.full_size import RANK, random_networks, small_networks, write_images
from benchmarks.gpu.loops import PeftLoop, PivotalPeftLoop, bare_joint_step, bare_step, engine_loop
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.setup import Setup
from lib_pivotal.host.diffusers.model import DiffusersModel

_PEERS = {"peft, LoRA only": PeftLoop, "peft, LoRA and tokens": PivotalPeftLoop}

_MODES = {
    "this engine, LoRA and embeddings": "fast",
    "the same, keeping less": "less",
    "the same, keeping least": "least",
    "the same, saving": "save",
}
"""Title → how memory is used, see ``loops.engine_loop``."""

Round = Callable[[int], None]
"""Runs a number of steps."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("small", "sd1"), default="small", help="sd1: full size, random weights")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=64, help="side of the images in px")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=6, help="steps per round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rounds = _rounds(Path(folder), options)
        seconds: dict[str, list[float]] = {title: [] for title in rounds}
        for number in range(options.rounds + 1):
            for title, run in rounds.items():
                started = time.process_time()
                run(options.steps)
                if number:  # the first round warms up
                    seconds[title].append((time.process_time() - started) / options.steps)
    _print(seconds, options)


def _rounds(folder: Path, options: argparse.Namespace) -> dict[str, Round]:
    """Title → what is measured."""
    side, batch = options.resolution, options.batch
    model, data = _model(folder / "model", options), write_images(folder / "images", side)
    bare = bare_step(model, side, batch)
    rounds: dict[str, Round] = {
        "bare UNet": _repeated(bare),
        "bare UNet and text encoder": _repeated(bare_joint_step(model, side, batch)),
    }
    for title, memory in _MODES.items():
        loop, setup = engine_loop(model, data, folder / "cache", side, batch, memory)
        rounds[title] = _engine(loop, setup)
    if importlib.util.find_spec("peft"):
        for title, peer in _PEERS.items():
            # A model of its own, because peft replaces layers.
            rounds[title] = _repeated(peer(_model(folder / title, options), side, batch).step)
    return rounds


def _engine(loop: Loop, setup: Setup) -> Round:
    numbers = itertools.count()

    def run(steps: int) -> None:
        with setup.attached():
            for _ in range(steps):
                loop.train_step(next(numbers))

    return run


def _model(folder: Path, options: argparse.Namespace) -> DiffusersModel:
    device = torch.device("cpu")
    networks = small_networks(folder) if options.model == "small" else random_networks(options.model, device)
    return DiffusersModel(networks, clip_skip=1, dtype=torch.float32, device=device)


def _repeated(step: Callable[[], object]) -> Round:
    def run(steps: int) -> None:
        for _ in range(steps):
            step()

    return run


def _print(seconds: dict[str, list[float]], options: argparse.Namespace) -> None:
    bare = seconds["bare UNet"]
    lines = [
        f"{options.model} model, {options.resolution} px, batch {options.batch}, rank {RANK}, fp32, one thread, "
        f"torch {torch.__version__}, medians of {options.rounds} rounds of {options.steps} steps",
        "",
        "| step | CPU time | relative to the bare UNet |",
        "|---|---:|---:|",
    ]
    for title, values in seconds.items():
        ratio = statistics.median(value / floor for value, floor in zip(values, bare, strict=True))
        lines.append(f"| {title} | {1000 * statistics.median(values):.1f} ms | {ratio:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
