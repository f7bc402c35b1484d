"""Trains the demo's characters with and without core tags in the captions: ``run.py bench core_tags``.

The captions also name body, color and pattern of each character, as those of a tagger would. One run leaves these core
tags out, the other keeps them; everything else is the same. Then images are made from each name alone, and a reader of
attributes says how many have the right body, color and pattern. The denoising loss on images that were not trained on
is measured for captions without core tags, and for the same captions with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.baseline import baseline
from benchmarks.cast import images_of
from benchmarks.methods.measures import LOOKS
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.core_tags.suggestion import apply, suggest
from lib_pivotal.core.core_tags.tag_classes import read_tag_classes
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.demo.__main__ import NAMES
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.base_model.reader import read
from lib_pivotal.demo.characters import write_dataset
from lib_pivotal.demo.evaluate import Parts, held_out, loss_of, parts_of
from lib_pivotal.host.diffusers.model import DiffusersModel, load_model

_CLASSES = """
[pattern] permanent
^(striped|dotted)$
[body] permanent
^\\w+ (square|heart)$
[rest] changing
.
"""


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out/core-tags"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=24, help="images per name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bases = materialize(options.out / "model")
    data = _write_data(options.out)
    plain = dataclasses.replace(baseline(bases.a, data, options.steps), batch_size=options.batch)
    config = apply(plain, suggest(plain, read_dataset(plain).usable, read_tag_classes(_CLASSES)))
    for concept in config.concepts:
        _say(f"core tags of {concept.name}: {', '.join(concept.core_tags)}")
    model = load_model(bases.a)
    for prunes in (True, False):
        started = time.monotonic()
        bundle = _train(dataclasses.replace(config, prune_core_tags=prunes), options.out)
        _say(f"\n== core tags {'left out' if prunes else 'kept'} (trained in {time.monotonic() - started:.0f} s)")
        file = read_bundle(bundle)
        for kind, loras in (("whole bundle", ["unet", "clip_l"]), ("embeddings only", [])):
            _measure(model, parts_of(file, model, embeddings=True, loras=loras), kind, options)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _core_tags(name: str) -> str:
    body, color, pattern = LOOKS[name]
    return f"{color} {body}, {pattern}"


def _write_data(out: Path) -> Path:
    for name in NAMES:
        for path in write_dataset(out / "data" / name, name):
            caption = path.with_suffix(".txt")
            text = caption.read_text(encoding="utf-8")
            caption.write_text(text.replace(name, f"{name}, {_core_tags(name)}"), encoding="utf-8")
        write_dataset(out / "held-out", name, "held_out")
    return out / "data"


def _train(config: TrainConfig, out: Path) -> Path:
    name = "pruned" if config.prune_core_tags else "kept"
    outcome = train_run(dataclasses.replace(config, output_name=name), (), out)
    if outcome.outcome != "done" or outcome.bundle_path is None:
        raise SystemExit("The training was stopped.")
    return outcome.bundle_path


def _measure(model: DiffusersModel, parts: Parts, kind: str, options: argparse.Namespace) -> None:
    """Print shares of right attributes in images of the names alone, and losses on images not trained on."""
    right = []
    for name in NAMES:
        for image in images_of(model, parts, [name] * options.seeds, list(range(options.seeds))):
            reading = read(image, "a")
            right.append(np.array([reading.shape, reading.color, reading.pattern]) == np.array(LOOKS[name]))
    shares = np.mean(right, axis=0)
    data = held_out(options.out / "held-out", model)
    full = [_with_core_tags(caption) for caption in data.captions]
    bare_loss, full_loss = (float(loss_of(model, data, captions, parts).mean()) for captions in (data.captions, full))
    _say(
        f"{kind}: name alone, {len(right)} images: body {shares[0]:.0%}, color {shares[1]:.0%}, "
        f"pattern {shares[2]:.0%}, all {np.mean(np.all(right, axis=1)):.0%}; "
        f"held-out loss {bare_loss:.4f}, with core tags in the captions {full_loss:.4f}"
    )


def _with_core_tags(caption: str) -> str:
    name = next(name for name in NAMES if name in caption)
    return caption.replace(name, f"{name}, {_core_tags(name)}")


if __name__ == "__main__":
    main()
