"""What regularization keeps, and what it costs, on the embedded small model: ``python run.py bench regularization``.

Each run trains the demo's two characters for the same number of steps; the runs differ by their regularization alone.
On drawings that have nothing to do with the characters, it measures how far the predictions move (drift) and how much
the loss grows; on held-out drawings of the characters, how much lower the loss is with their names than with the
initialization text on the unchanged model (gain).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.baseline import baseline
from benchmarks.methods.measures import mean_loss, write_scenes
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Subset
from lib_pivotal.core.config.subset import REGULARIZATION
from lib_pivotal.demo.__main__ import INIT_TEXT, NAMES
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.characters import write_dataset
from lib_pivotal.demo.evaluate import Parts, drift_of, held_out, parts_of
from lib_pivotal.host.diffusers.model import load_model

_NOTHING = Parts({}, [])


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--share", type=float, default=0.2, help="share of the samples that regularize")
    parser.add_argument("--only", nargs="*", help="titles of runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), options.steps, options.share, options.only)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _measure(out: Path, steps: int, share: float, only: list[str] | None) -> None:
    for name in NAMES:
        write_dataset(out / "data" / name, name)
        write_dataset(out / "characters", name, "held_out")
    write_scenes(out / "scenes", 64, seed=1)
    write_scenes(out / "unrelated", 64, seed=2)
    base = materialize(out / "model").a
    model = load_model(base)
    characters, unrelated = held_out(out / "characters", model), held_out(out / "unrelated", model)
    before = mean_loss(model, characters, _NOTHING, INIT_TEXT), mean_loss(model, unrelated, _NOTHING)
    _say(f"{steps} steps, regularization share {share:g}")
    _say(
        f"unchanged model: characters by their initialization text {before[0]:.4f}, unrelated drawings {before[1]:.4f}"
    )
    _say("regularization          drift   unrelated loss   gain   seconds")
    chosen = {title: changes for title, changes in _variants(out).items() if only is None or title in only}
    for number, (title, changes) in enumerate(chosen.items()):
        config = replace(baseline(base, out / "data", steps), regularization_share=share, **changes)
        started = time.monotonic()
        outcome = train_run(config, (), out / f"run-{number}")
        if outcome.outcome != "done" or outcome.bundle_path is None:
            raise SystemExit("The training was stopped.")
        seconds = time.monotonic() - started
        parts = parts_of(read_bundle(outcome.bundle_path), model, embeddings=True, loras=["unet", "clip_l"])
        drift = float(drift_of(model, unrelated, unrelated.captions, parts).mean())
        growth = mean_loss(model, unrelated, parts) / before[1] - 1
        gain = 1 - mean_loss(model, characters, parts) / before[0]
        _say(f"{title:20} {drift:8.5f} {growth:+15.1%} {gain:+8.1%} {seconds:8.0f}")


def _variants(out: Path) -> dict[str, dict[str, Any]]:
    """Title → settings."""
    scenes = (Subset(str(out / "scenes"), kind=REGULARIZATION),)
    same = (Subset(str(out / "data"), kind=REGULARIZATION),)
    return {
        "none": {},
        "images": {"subsets": scenes},
        "prior": {"subsets": scenes, "regularization_target": "prior"},
        "prior, weight 5": {"subsets": scenes, "regularization_target": "prior", "regularization_weight": 5.0},
        "prior, weight 20": {"subsets": scenes, "regularization_target": "prior", "regularization_weight": 20.0},
        "same images": {"subsets": same, "regularization_target": "prior"},
        "same images, weight 5": {"subsets": same, "regularization_target": "prior", "regularization_weight": 5.0},
    }


if __name__ == "__main__":
    main()
