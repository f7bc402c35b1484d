"""Measures how long a run needs before its first step: ``python run.py bench startup``.

For each number of images: the bare VAE on as many tensors, then the whole way from the settings to the first batch,
without a cache (cold) and with one (warm), each in a process of its own. The images are PNG files of scenes of the
demo's world; the VAE is that of the small model, so that reading the images counts as much as it can, or with
``--vae sd1`` one of full size with random weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.gpu.full_size import random_vae
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.batches import Batcher
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.training_data import load_training_data
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.host.diffusers.checkpoint import load_networks
from lib_pivotal.host.diffusers.model import DiffusersModel

_BATCH = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000, 10_000])
    parser.add_argument("--side", type=int, default=512, help="side of the image files in px")
    parser.add_argument("--resolution", type=int, default=64, help="side in px at which they are encoded")
    parser.add_argument("--vae", choices=("small", "sd1"), default="small")
    parser.add_argument("--part", choices=("bare", "start"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        measure = _bare if options.part == "bare" else _start
        sys.stdout.write(json.dumps(measure(options.folder, options)) + "\n")
        return
    sys.stdout.write(f"torch {torch.__version__}, threads {torch.get_num_threads()}, files of {options.side} px\n")
    sys.stdout.write("| images | bare VAE | cold | warm | peak memory cold | warm |\n|---|---|---|---|---|---|\n")
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            _write_images(Path(folder) / "data", count, options.side)
            materialize(Path(folder) / "model")
            bare, cold, warm = (_child(Path(folder), part, options, count) for part in ("bare", "start", "start"))
        sys.stdout.write(
            f"| {count} | {bare['seconds']:.1f} s | {cold['seconds']:.1f} s | {warm['seconds']:.1f} s "
            f"| {cold['mib']:.0f} MiB | {warm['mib']:.0f} MiB |\n"
        )
        sys.stdout.flush()


def _write_images(folder: Path, count: int, side: int) -> None:
    """Images that differ in a corner, with captions."""
    scenes = folder.parent / "scenes"
    name = next(iter(CHARACTERS))
    write_dataset(scenes, name)
    paths = sorted(scenes.glob("*.png"))
    images = [Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC) for path in paths]
    folder.mkdir()
    for number in range(count):
        image = images[number % len(images)]
        image.putpixel((0, 0), (number % 256, number // 256 % 256, number // 65536))
        image.save(folder / f"{number:06}.png", compress_level=1)
        caption = paths[number % len(paths)].with_suffix(".txt").read_text(encoding="utf-8")
        (folder / f"{number:06}.txt").write_text(caption, encoding="utf-8")


def _child(folder: Path, part: str, options: argparse.Namespace, count: int) -> dict[str, float]:
    arguments = [
        "--part",
        part,
        "--folder",
        str(folder),
        "--images",
        str(count),
        "--resolution",
        str(options.resolution),
        "--vae",
        options.vae,
    ]
    command = [sys.executable, "-m", "benchmarks.startup", *arguments]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def _measured(started: float) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.monotonic() - started, "mib": peak / 1024}


def _model(folder: Path, options: argparse.Namespace) -> DiffusersModel:
    networks = load_networks(materialize(folder / "model").a)
    if options.vae == "sd1":
        torch.manual_seed(0)  # The second start finds latents of the same VAE only.
        networks = dataclasses.replace(networks, vae=random_vae())
    return DiffusersModel(networks, clip_skip=1, dtype=torch.float32, device=torch.device("cpu"))


def _bare(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds that the VAE alone needs."""
    vae = _model(folder, options).vae
    pixels = torch.zeros(_BATCH, 3, options.resolution, options.resolution)
    started = time.monotonic()
    for _ in range(0, options.images[0], _BATCH):
        vae.encode(pixels)
    return _measured(started)


def _start(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds from the settings to the first batch."""
    model: Any = _model(folder, options)
    config = TrainConfig(
        concepts=(Concept(next(iter(CHARACTERS)), "circle"),),
        data_folder=str(folder / "data"),
        resolution=options.resolution,
        batch_size=_BATCH,
        cache_to_disk=True,
        output_name="startup",
    )
    tokenize = model.text_encoders[0].tokenize
    started = time.monotonic()
    cache = folder / "cache"
    checked = check(config, bundles=folder, taken_names={}, tokenizer=tokenize, keeps_images=True, cache=cache)
    data = load_training_data(
        config,
        model.vae,
        checked.dataset,
        cache=cache,
        group=SingleProcess(),
        progress=lambda _done, _total: None,
        stopped=lambda: False,
    )
    steps = len(model.alphas_cumprod)
    Batcher(data.images, data.entries, data.items, config, timestep_count=steps, device=model.device).step(0)
    return _measured(started)


if __name__ == "__main__":
    main()
