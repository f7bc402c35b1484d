"""What a negative embedding is worth with very few images, on the embedded small model: ``run.py bench negative``.

Both of the demo's characters are trained with one, three and five images each, without and with negative embeddings,
and with a negative LoRA.
On held-out drawings it measures the error of the caption alone and of the guided prediction, which is what guidance
makes of the caption and the negative prompt; in images, how often a name alone looks right and how often a background
that was asked for is drawn. As in a webui, the LoRA acts on the negative prompt, too; without negative embeddings the
negative prompt is empty.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarks.baseline import baseline
from benchmarks.cast import images_of
from benchmarks.methods.measures import LOOKS
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.negative_lora import negative_path
from lib_pivotal.core.config.negative import negative_name
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.demo.__main__ import NAMES
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.base_model.reader import read
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.demo.evaluate import HeldOut, Parts, held_out, loss_of, parts_of
from lib_pivotal.host.diffusers.model import DiffusersModel, load_model

_NEGATIVE_VECTORS = 6
_SCALES = (3.0, 7.0)
"""The scale that is trained, and the webui's default."""
_DRAWN = 8
"""Images per name and kind of prompt."""
_METHODS: dict[str, dict[str, Any]] = {
    "no negative embedding": {},
    "negative embedding": {"negative_with_lora": False},
    "the same, trained with the LoRA": {"negative_with_lora": True},
    "the same, with a negative LoRA": {"negative_with_lora": True, "negative_rank": 8},
}
"""Title → settings; negative embeddings are trained where there are any."""


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out/negative"), help="folder for the results")
    parser.add_argument("--images", type=int, nargs="+", default=[1, 3, 5], help="training images per character")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = materialize(options.out / "model").a
    model = load_model(base)
    for name in NAMES:
        write_dataset(options.out / "held-out", name, "held_out")
    data = held_out(options.out / "held-out", model)
    results: dict[tuple[int, str], list[dict[str, float]]] = {}
    for seed, count, title in product(range(options.seeds), options.images, _METHODS):
        started = time.monotonic()
        result = _result(model, data, base, count, title, seed, options)
        results.setdefault((count, title), []).append(result)
        _say(f"{count} images, {title}, seed {seed}: {time.monotonic() - started:.0f} s")
    _print(results)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _result(
    model: DiffusersModel,
    data: HeldOut,
    base: Path,
    count: int,
    title: str,
    seed: int,
    options: argparse.Namespace,
) -> dict[str, float]:
    """Measure a run, unless an earlier call of the program did."""
    slug = "".join(letter if letter.isalnum() else "-" for letter in title)
    out = options.out / f"{slug}-{count}-{options.steps}-{seed}"
    path = out / "result.json"
    if not path.exists():
        shutil.rmtree(out, ignore_errors=True)
        _write_images(out / "data", count)
        config = replace(baseline(base, out / "data", options.steps), batch_size=4, seed=seed, **_METHODS[title])
        result = _measured(model, data, config, out, has_negatives=bool(_METHODS[title]))
        path.write_text(json.dumps(result))
    found: dict[str, float] = json.loads(path.read_text())
    return found


def _write_images(folder: Path, count: int) -> None:
    for name in NAMES:
        for path in write_dataset(folder / name, name)[count:]:
            path.unlink()
            path.with_suffix(".txt").unlink()


def _measured(
    model: DiffusersModel, data: HeldOut, config: TrainConfig, out: Path, *, has_negatives: bool
) -> dict[str, float]:
    """Train and measure the bundle."""
    if has_negatives:
        concepts = [replace(concept, negative_vectors=_NEGATIVE_VECTORS) for concept in config.concepts]
        config = replace(config, concepts=tuple(concepts))
    outcome = train_run(config, (), out)
    if outcome.outcome != "done" or outcome.bundle_path is None:
        raise SystemExit("The training was stopped.")
    parts = parts_of(read_bundle(outcome.bundle_path), model, embeddings=True, loras=["unet", "clip_l"])
    if config.negative_rank:
        tensors = read_bundle(negative_path(outcome.bundle_path)).lora
        negative_lora = AdapterSet.from_state("unet", model.lora_targets(), tensors, model.device)
        negative_lora.only_negative = True
        parts = Parts(parts.embeddings, [*parts.loras, negative_lora])

    def negative(caption: str) -> str:
        named = [name for name in NAMES if name in caption]
        return ", ".join(negative_name(name) for name in named) if has_negatives else ""

    result = {"caption": float(loss_of(model, data, data.captions, parts).mean())}
    negatives = [negative(caption) for caption in data.captions]
    for scale in _SCALES:
        loss = loss_of(model, data, data.captions, parts, negatives=negatives, guidance=scale)
        result[f"guided {scale:g}"] = float(loss.mean())
        looks, backgrounds = _images(model, parts, [negative(name) for name in NAMES], scale)
        result[f"looks {scale:g}"], result[f"backgrounds {scale:g}"] = looks, backgrounds
    return result


def _images(model: DiffusersModel, parts: Parts, negatives: Sequence[str], scale: float) -> tuple[float, float]:
    """Share of images of a name alone that look right, and share with a background that was asked for."""
    looks, backgrounds, seeds = [], [], list(range(_DRAWN))
    for name, negative in zip(NAMES, negatives, strict=True):
        against = [negative] * _DRAWN
        for image in images_of(model, parts, [name] * _DRAWN, seeds, negatives=against, guidance=scale):
            reading = read(image, "a")
            looks.append((reading.shape, reading.color, reading.pattern) == LOOKS[name])
        unseen = CHARACTERS[name].held_out
        asked = [unseen[seed % len(unseen)] for seed in seeds]
        prompts = [f"{name}, large, {color} background" for color in asked]
        images = images_of(model, parts, prompts, seeds, negatives=against, guidance=scale)
        backgrounds += [read(image, "a").background == color for image, color in zip(images, asked, strict=True)]
    return float(np.mean(looks)), float(np.mean(backgrounds))


def _print(results: dict[tuple[int, str], list[dict[str, float]]]) -> None:
    """Print the means over the seeds as a Markdown table."""
    keys = list(next(iter(results.values()))[0])
    _say("| images | method | " + " | ".join(keys) + " |")
    _say("|---:|---|" + "---:|" * len(keys))
    for (count, title), found in results.items():
        means = {key: mean(item[key] for item in found) for key in keys}
        cells = [
            f"{value:.0%}" if key.startswith(("looks", "backgrounds")) else f"{value:.4f}"
            for key, value in means.items()
        ]
        _say(f"| {count} | {title} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
