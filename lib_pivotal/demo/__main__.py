"""Pivotal tuning on the embedded small model: ``python -m lib_pivotal.demo``.

Trains two characters together on base model A, writes the bundle, and measures what each part of it contributes on
base models A and B, compared with a LoRA trained with rare words.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lib_pivotal.cli.console import guarded, say
from lib_pivotal.cli.main import reported
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.presets import with_preset
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.lora.adapter_set import attach
from lib_pivotal.core.ports import SampleRequest
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.demo.evaluate import Parts, held_out, loss_of, parts_of
from lib_pivotal.demo.report import (
    CONTROL,
    CONTROL_BARE,
    EMBEDDINGS,
    INIT,
    ROWS,
    TEXT,
    UNET,
    WHOLE,
    claims,
    grid,
    table,
)
from lib_pivotal.host.diffusers.model import DiffusersModel, load_model
from lib_pivotal.host.diffusers.sample import DiffusersSampler

INIT_TEXT = "circle"
NAMES = tuple(CHARACTERS)[:2]
PRESET = "character-sd1"
_SAMPLE_STEPS = 20


def main() -> int:
    """Run everything, print the result, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    started = time.monotonic()
    # Networks this small finish before a second thread has started.
    torch.set_num_threads(1)
    say(run(options.out, options.steps))
    say(f"\n\nDone in {time.monotonic() - started:.0f} s. All results are in {options.out}.\n")
    return 0


def run(out: Path, steps: int) -> str:
    """Train, measure and draw; returns the text of the result, which is also in ``out/result.md``.

    Raises:
        KeyboardInterrupt: a signal has stopped one of the trainings.
        PivotalError: see :func:`lib_pivotal.cli.train.train_run`.
    """
    say("Writing the small model and the training images …\n")
    bases = materialize(out / "model")
    data = _write_data(out)
    say(f"Training {' and '.join(NAMES)} together, embeddings and LoRA, {steps} steps …\n")
    bundle_path = _train(demo_config(bases.a, data, steps), out)
    say(f"Training the control, the same LoRA with rare words instead of embeddings, {steps} steps …\n")
    control_path = _train(demo_config(bases.a, data, steps, is_control=True), out)
    losses: dict[str, dict[str, float]] = {}
    images: dict[str, list[Image.Image]] = {row: [] for row in ROWS}
    for base, path, style in (("A", bases.a, "a"), ("B", bases.b, "b")):
        say(f"Measuring and drawing on base {base} …\n")
        model = load_model(path)
        rows = _rows(model, bundle_path, control_path)
        losses[base] = _losses(model, out / f"held-out-{style}", rows)
        for row, parts in rows.items():
            images[row] += _images(model, parts, row)
    titles = [f"base {base}: {prompt}" for base in losses for prompt in _prompts()]
    grid([(row, images[row]) for row in ROWS], titles).save(out / "result.png")
    lines = [
        f"Bundle: {bundle_path}",
        "",
        "Mean denoising loss on images not trained on (on backgrounds the character was never on), lower is better:",
        "",
        table(losses),
        "",
        *(str(claim) for claim in claims(losses)),
        "",
        f"Images of each row: {out / 'result.png'}",
    ]
    text = "\n".join(lines)
    (out / "result.md").write_text(text + "\n", encoding="utf-8")
    return text


def demo_config(checkpoint: Path, data: Path, steps: int, *, is_control: bool = False) -> TrainConfig:
    """The preset that users choose for a character, at the size of the small model's images.

    The control has no concepts, so that its names are just rare words.
    """
    values: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "concepts": [] if is_control else [{"name": name, "init_text": INIT_TEXT} for name in NAMES],
        "data_folder": str(data),
        "resolution": 64,
        "steps": steps,
        "batch_size": 8,
        # The preset trains none; with one, the table can show every part of a bundle.
        "text_encoder_rank": 4,
        "sample_every": 0,
        "output_name": "control" if is_control else "demo",
        "if_exists": "overwrite",
    }
    config, problems = read_dict(with_preset(values, PRESET))
    assert not problems, problems
    return config


def _write_data(out: Path) -> Path:
    for name in NAMES:
        write_dataset(out / "data" / name, name)
        for style in "ab":
            write_dataset(out / f"held-out-{style}", name, "held_out", style)
    return out / "data"


def _train(config: TrainConfig, out: Path) -> Path:
    """Train exactly as the command line does; returns the bundle."""
    outcome = train_run(config, (), out)
    if outcome.outcome != "done" or outcome.bundle_path is None:
        # Its progress has been kept and reported; the rest of the demo ends as it does on a signal at any other time.
        raise KeyboardInterrupt
    return outcome.bundle_path


def _rows(model: DiffusersModel, bundle_path: Path, control_path: Path) -> dict[str, Parts]:
    """What is switched on in each row of the table."""
    bundle, control = read_bundle(bundle_path), read_bundle(control_path)
    nothing = Parts({}, [])
    return {
        INIT: nothing,
        EMBEDDINGS: parts_of(bundle, model, embeddings=True, loras=[]),
        TEXT: parts_of(bundle, model, embeddings=True, loras=["clip_l"]),
        UNET: parts_of(bundle, model, embeddings=True, loras=["unet"]),
        WHOLE: parts_of(bundle, model, embeddings=True, loras=["unet", "clip_l"]),
        CONTROL_BARE: nothing,
        CONTROL: parts_of(control, model, embeddings=False, loras=["unet", "clip_l"]),
    }


def _losses(model: DiffusersModel, folder: Path, rows: dict[str, Parts]) -> dict[str, float]:
    data = held_out(folder, model)
    result = {}
    for row, parts in rows.items():
        captions = [_caption(caption, row) for caption in data.captions]
        result[row] = float(loss_of(model, data, captions, parts).mean())
    return result


def _caption(caption: str, row: str) -> str:
    """The caption for a row: with the initialization text where no bundle is used, with the names in all other rows."""
    if row != INIT:
        return caption
    for name in NAMES:
        caption = caption.replace(name, INIT_TEXT)
    return caption


def _prompts() -> list[str]:
    """Both characters, and the first one on a background that it was never trained with."""
    held_out = CHARACTERS[NAMES[0]].held_out
    trained = next(color for color in ("red", "green", "pink") if color not in held_out)
    return [
        f"{NAMES[0]}, large, {trained} background",
        f"{NAMES[1]}, large, {trained} background",
        f"{NAMES[0]}, large, {held_out[1]} background",
    ]


def _images(model: DiffusersModel, parts: Parts, row: str) -> list[Image.Image]:
    sampler = DiffusersSampler(model)
    images = []
    with attach(parts.loras):
        for prompt in _prompts():
            request = SampleRequest(_caption(prompt, row), "", 64, 64, _SAMPLE_STEPS, 4.0, seed=3)
            sample = sampler.make(request, parts.embeddings)
            assert sample is not None
            images.append(sample.image)
    return images


if __name__ == "__main__":
    with guarded():
        code = reported(main)
    sys.exit(code)
