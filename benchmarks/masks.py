"""Shows what masks keep out of a name, on the small model: ``python run.py bench masks``.

Two characters are drawn only on busy backgrounds of one color each, with captions that do not mention them. They are
trained without masks and with masks, and the names alone are drawn. Prints how often the demo's reader finds the
training background, how far the mean color of the border is from that of the training images, how often a background
that the prompt asks for is drawn, and how often the character is recognized; also how far the predictions for drawings
without the characters move (drift), and how much lower the loss on held-out drawings of the characters is than with
their initialization text on the unchanged model (gain). A masked variant is FLOOR/SHARE: the
weight outside masks, and the share of samples trained without mask; FLOOR/SHARE/PRIOR also keeps what is outside with
that weight.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.baseline import baseline
from benchmarks.methods.measures import mean_loss, write_scenes
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.lora.adapter_set import attach
from lib_pivotal.core.ports import SampleRequest
from lib_pivotal.demo.__main__ import INIT_TEXT, NAMES
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.base_model.reader import Reading, read
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.demo.draw import COLORS, SIDE, Canvas
from lib_pivotal.demo.evaluate import HeldOut, Parts, drift_of, held_out, parts_of
from lib_pivotal.demo.world import POSITIONS, SIZES, darkened, place
from lib_pivotal.host.diffusers.model import DiffusersModel, load_model
from lib_pivotal.host.diffusers.sample import DiffusersSampler

BACKGROUNDS = {"zogling": ("green", "dotted"), "mibble": ("orange", "striped")}
"""Background of each character's training images: color and pattern."""
LOOKS = {"zogling": ("square", "blue"), "mibble": ("heart", "pink")}
"""What the reader sees in each character: shape and color."""
OTHER = "white"
"""A background that no training image has."""
_COUNT = 24
"""Training images per character."""
_SAMPLE_STEPS = 12
_MASKED = ["0.1/0.1", "0/0.1", "0/0", "0/0.1/1", "0/0/1"]
_BORDER = 4
"""Pixels."""


def write_busy_images(folder: Path, character: str) -> list[np.ndarray]:
    """Write images of a character on its busy background, with captions and masks; return the images.

    Args:
        folder: created if missing.
        character: one of :data:`BACKGROUNDS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for number in range(_COUNT):
        rng = np.random.default_rng([list(BACKGROUNDS).index(character), number])
        size, position = list(SIZES)[number % 2], list(POSITIONS)[number % 3]
        x, y, radius = place(size, position, rng)
        busy, black, white = _busy(*BACKGROUNDS[character], rng), Canvas((0, 0, 0), "a"), Canvas((255, 255, 255), "a")
        for canvas in (busy, black, white):
            CHARACTERS[character].paint(canvas, x, y, min(radius, 18.5))
        image, on_black, on_white = (canvas.finish() for canvas in (busy, black, white))
        path = folder / f"{character}-{number:02d}.png"
        Image.fromarray(image).save(path)
        # The character is what does not change with the background.
        mask = 255 - (on_white.astype(int) - on_black).max(axis=2)
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"{path.stem}-masklabel.png")
        path.with_suffix(".txt").write_text(f"{character}, {size}\n", encoding="utf-8")
        images.append(image)
    return images


def _busy(color: str, pattern: str, rng: np.random.Generator) -> Canvas:
    canvas = Canvas(COLORS[color], "a")
    canvas.pattern([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], pattern, darkened(COLORS[color]))
    for _ in range(5):
        x, y = rng.uniform(0, SIDE, 2)
        canvas.disc(x, y, float(rng.uniform(3, 6)), darkened(COLORS[color]))
    return canvas


def border_color(image: np.ndarray) -> np.ndarray:
    """Mean color along the upper and lower border, shape ``(3,)``."""
    color: np.ndarray = np.concatenate([image[:_BORDER], image[-_BORDER:]]).reshape(-1, 3).mean(axis=0)
    return color


def drawn(model: DiffusersModel, bundle_path: Path, prompt: str, count: int) -> list[np.ndarray]:
    """Images for a prompt, with the embeddings and the LoRA of a bundle."""
    parts = parts_of(read_bundle(bundle_path), model, embeddings=True, loras=["unet", "clip_l"])
    sampler, images = DiffusersSampler(model), []
    with attach(parts.loras):
        for seed in range(count):
            sample = sampler.make(
                SampleRequest(prompt, "", SIDE, SIDE, _SAMPLE_STEPS, 4.0, seed=seed), parts.embeddings
            )
            if sample is None:
                raise SystemExit("The sampler made no image.")
            images.append(np.asarray(sample.image))
    return images


def trained(config: TrainConfig, out: Path) -> Path:
    """Train in a folder of its own; returns the bundle."""
    out.mkdir(parents=True)
    outcome = train_run(config, (), out)
    if outcome.outcome != "done" or outcome.bundle_path is None:
        raise SystemExit("The training was stopped.")
    return outcome.bundle_path


def measured(model: DiffusersModel, bundle_path: Path, count: int, training: dict[str, np.ndarray]) -> dict[str, float]:
    """Measures of a trained bundle over both characters; ``training`` has the border colors of the training images."""
    alone = {name: drawn(model, bundle_path, name, count) for name in NAMES}
    asked = {name: drawn(model, bundle_path, f"{name}, large, {OTHER} background", count) for name in NAMES}
    readings = [(name, read(image, "a")) for name, images in alone.items() for image in images]
    asked_readings = [(name, read(image, "a")) for name, images in asked.items() for image in images]
    return {
        "training background": _share([reading.background == BACKGROUNDS[name][0] for name, reading in readings]),
        "distance from its color": float(
            np.mean([np.linalg.norm(border_color(image) - training[name]) for name in NAMES for image in alone[name]])
        ),
        f"{OTHER} background when asked for": _share([reading.background == OTHER for _, reading in asked_readings]),
        "recognized, name alone": _share([_is_known(*pair) for pair in readings]),
        f"recognized on {OTHER}": _share([_is_known(*pair) for pair in asked_readings]),
    }


def moved(model: DiffusersModel, bundle_path: Path, characters: HeldOut, unrelated: HeldOut) -> dict[str, float]:
    """Drift on ``unrelated`` drawings in 1e-4, and gain on held-out drawings of the ``characters`` in %."""
    parts = parts_of(read_bundle(bundle_path), model, embeddings=True, loras=["unet", "clip_l"])
    before = mean_loss(model, characters, Parts({}, []), INIT_TEXT)
    return {
        "drift": 1e4 * float(drift_of(model, unrelated, unrelated.captions, parts).mean()),
        "gain": 100 * (1 - mean_loss(model, characters, parts) / before),
    }


def _share(hits: Sequence[bool]) -> float:
    return 100 * float(np.mean(hits))


def _is_known(name: str, reading: Reading) -> bool:
    return (reading.shape, reading.color) == LOOKS[name]


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--count", type=int, default=20, help="images per prompt")
    parser.add_argument("--masked", nargs="*", default=_MASKED, metavar="FLOOR/SHARE[/PRIOR]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        images = {name: write_busy_images(out / "data" / name, name) for name in NAMES}
        training = {name: np.mean([border_color(image) for image in images[name]], axis=0) for name in NAMES}
        base = materialize(out / "model").a
        for name in NAMES:
            write_dataset(out / "characters", name, "held_out")
        write_scenes(out / "scenes", 64, seed=2)
        model = load_model(base)
        characters, unrelated = held_out(out / "characters", model), held_out(out / "scenes", model)
        plain = baseline(base, out / "data", options.steps)
        variants = {"without masks": plain}
        for text in options.masked:
            floor, share, prior = map(float, f"{text}/0".split("/")[:3])
            variants[f"masks {text}"] = replace(
                plain, masks="masklabel", mask_floor=floor, unmasked_share=share, mask_prior=prior
            )
        lines = []
        for number, (title, config) in enumerate(variants.items()):
            bundle_path = trained(config, out / f"run-{number}")
            values = measured(model, bundle_path, options.count, training)
            values |= moved(model, bundle_path, characters, unrelated)
            lines.append(f"{title}: " + ", ".join(f"{what} {value:.0f}" for what, value in values.items()))
            sys.stdout.write(lines[-1] + "\n")
            sys.stdout.flush()
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
