"""Measures how training scales over processes: ``python run.py bench processes``.

Each process takes a core of its own and trains the small model on batches of its own, as ``torchrun`` would start them,
with as many samples per process. The efficiency is the time of a step in one process divided by that in several, by the
clock, which needs an idle machine, and in CPU time, which does not count waiting for the others. As cores share caches
and power, it is also measured for processes that exchange nothing. The model on paper for many GPUs follows from the
bytes that a step exchanges.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.events import Control, StepDone
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.host.diffusers.distributed import open_group
from lib_pivotal.host.diffusers.model import load_model

_BATCH = 4
_WARM_UP = 5
"""Steps that are not counted."""
_GIB_PER_S = {"PCIe 4.0": 20.0, "NVLink": 200.0, "100 Gbit/s network": 10.0}
"""What a ring of GPUs gets out of these connections, per GPU and direction; assumed, not measured."""
_STEP_S = {"sd1": 0.2, "sdxl": 0.6}
"""A step of batch size 1 on one GPU, see ``python run.py gpu``."""


class _Times:
    """Notes when each step ended, by the clock and in CPU time of the process."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def handle(self, event: Any) -> None:
        """Receive an event."""
        if isinstance(event, StepDone):
            self.ends.append((time.monotonic(), time.process_time()))

    def medians(self) -> tuple[float, float]:
        """Seconds of a step by the clock and in CPU time."""
        steps = list(zip(self.ends, self.ends[1:], strict=False))[_WARM_UP:]
        clock, cpu = (statistics.median(after[kind] - before[kind] for before, after in steps) for kind in (0, 1))
        return clock, cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    _say(f"torch {torch.__version__}, {cores} cores, one thread per process, batch size {_BATCH} per process")
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        write_dataset(where / "data", next(iter(CHARACTERS)))
        materialize(where / "model")
        kinds = [(count, exchanges) for count in options.processes for exchanges in (False, True)[count == 1 :]]
        found: dict[tuple[int, bool], list[tuple[float, float]]] = {kind: [] for kind in kinds}
        # In turns, so that other load on the machine concerns all of them.
        for number in range(options.rounds):
            for count, exchanges in kinds:
                name = f"{number}-{count}-{exchanges}"
                found[count, exchanges].append(_measure(where, count, options.steps, name, exchanges=exchanges))
    _print_measured(found)
    _print_model()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print_measured(found: dict[tuple[int, bool], list[tuple[float, float]]]) -> None:
    medians = {kind: [statistics.median(each) for each in zip(*times, strict=True)] for kind, times in found.items()}
    alone = next(iter(medians.values()))
    _say("| processes | step | efficiency | CPU time of a step | efficiency |\n|---|---|---|---|---|")
    for (count, exchanges), (clock, cpu) in medians.items():
        by_clock, by_cpu = alone[0] / clock, alone[1] / cpu
        title = str(count) if exchanges else f"{count} that exchange nothing"
        _say(f"| {title} | {1000 * clock:.0f} ms | {by_clock:.2f} | {1000 * cpu:.0f} ms | {by_cpu:.2f} |")


def _measure(where: Path, count: int, steps: int, name: str, *, exchanges: bool) -> tuple[float, float]:
    """Seconds of a step in ``count`` processes, by the clock and in CPU time of one of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    places = [(rank, count) if exchanges else (0, 1) for rank in range(count)]
    workers = [
        context.Process(target=_work, args=(where, place, port, steps, f"{name}-{number}", results))
        for number, place in enumerate(places)
    ]
    for worker in workers:
        worker.start()
    times = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    clock, cpu = (statistics.mean(each) for each in zip(*times, strict=True))
    return clock, cpu


def _work(where: Path, place: tuple[int, int], port: int, steps: int, name: str, results: Any) -> None:
    """One of the processes, with its rank and the size of its group."""
    torch.set_num_threads(1)
    (rank, count), address = place, "127.0.0.1"
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": address, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in variables.items()})
    config = TrainConfig(
        concepts=(Concept(next(iter(CHARACTERS)), "circle"),),
        data_folder=str(where / "data"),
        resolution=64,
        batch_size=_BATCH,
        steps=steps,
        lora_start=0.0,
        sample_every=0,
        step_bundles=0,
        cache_to_disk=False,
        output_name=f"bench-{name}",
    )
    folders = Folders(where / f"run-{name}", where / "bundles", where / "cache")
    folders.run.mkdir(exist_ok=True)
    model, times = load_model(where / "model" / "pivotal-demo-a.safetensors", device="cpu"), _Times()
    with open_group(model.device) as group:
        train(config, model, None, [times], Control(), folders, group=group)
    results.put(times.medians())


def _print_model() -> None:
    """The efficiency of many GPUs on paper: each step exchanges the gradients once, in a ring."""
    _say("\n| LoRA of rank 16 | bytes per step | connection | 2 | 8 | 64 |\n|---|---|---|---|---|---|")
    for name, step_s in _STEP_S.items():
        size = 4 * 16 * FAMILIES[name].lora_values[0]
        for connection, speed in _GIB_PER_S.items():
            # In a ring, each process sends and receives 2 (n - 1) / n times the gradients.
            exchanged = {count: 2 * (count - 1) / count * size / (speed * 2**30) for count in (2, 8, 64)}
            cells = " | ".join(f"{step_s / (step_s + seconds):.3f}" for seconds in exchanged.values())
            _say(f"| {FAMILIES[name].title} | {size / 2**20:.0f} MiB | {connection} | {cells} |")


if __name__ == "__main__":
    main()
