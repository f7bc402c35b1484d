"""Trains a cast of fifteen characters and a style in one run and counts who is recognized: ``run.py bench cast``.

Three characters each share a body and its color and differ in one part, so a name that only learned the body is right
in a third of the images at most. The numbers of images are uneven, and the style is seen with five of the characters.
Everything is trained on the embedded small model with automatic steps, then images are made from each name alone and
from the name with a background, with the whole bundle and with its embeddings only. A reader that compares images with
drawings of all characters says who they show.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.presets import with_preset
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.lora.adapter_set import attach
from lib_pivotal.core.negative_rows import NegativeRows, with_negative_rows
from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.characters import Pose
from lib_pivotal.demo.draw import COLORS, Canvas, outline
from lib_pivotal.demo.evaluate import Parts, parts_of
from lib_pivotal.demo.report import grid
from lib_pivotal.demo.world import BACKGROUNDS, POSITIONS, SIZES, darkened, place
from lib_pivotal.host.diffusers.model import DiffusersModel, load_model

STYLE = "inkish"
_RADIUS = 18.5
_STEPS = 20
_GUIDANCE = 4.0
_BODIES = (
    ("square", (45, 100, 205), "striped"),
    ("heart", (240, 130, 185), "dotted"),
    ("cross", (240, 140, 40), "plain"),
    ("circle", (60, 160, 90), "striped"),
    ("star", (150, 70, 180), "plain"),
)
"""Shape, color and pattern that three characters share."""
_COLOR_WORDS = ("blue", "pink", "orange", "green", "purple")
_PART_COLOR = "yellow"
_NAMES = (
    ("zogling", "zagbit", "zurmo"),
    ("mibble", "mobkin", "mepzu"),
    ("tukkin", "tavoor", "tolbix"),
    ("gribbo", "grunix", "gelpaz"),
    ("siffle", "sorvik", "suzbat"),
)
_COUNTS = (30, 6, 16, 24, 8, 12, 20, 10, 30, 6, 16, 8, 24, 12, 10)
"""Images of each character."""
_STYLE_IMAGES = 4
"""Images in the style of each character that is seen in it, the first of each body."""


@dataclass(frozen=True)
class Character:
    """A body and one part: a hat, feet or a center."""

    name: str
    body: int
    part: int

    @property
    def words(self) -> str:
        """The body in words that the base model knows, which are the same for three characters."""
        return f"{_COLOR_WORDS[self.body]} {_BODIES[self.body][0]}"

    @property
    def backgrounds(self) -> list[str]:
        """Those on which both the body and the part can be seen, as in all images that the base model knows."""
        return [name for name in BACKGROUNDS if name not in (_COLOR_WORDS[self.body], _PART_COLOR)]


CAST = tuple(Character(name, body, part) for body, names in enumerate(_NAMES) for part, name in enumerate(names))


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out/cast"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=0, help="0 chooses them as for every run")
    parser.add_argument("--seeds", type=int, default=4, help="images per name and kind")
    parser.add_argument("--bundle", type=Path, help="measure this bundle and train none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bases = materialize(options.out / "model")
    data = write_data(options.out / "data")
    started = time.monotonic()
    bundle = options.bundle or _train(bases.a, data, options.out, options.steps)
    _say(f"trained in {time.monotonic() - started:.0f} s")
    model = load_model(bases.a)
    reader = Reader()
    _say(f"the reader is right in {reader.accuracy():.1%} of new drawings")
    file = read_bundle(bundle)
    kinds = {
        "whole bundle": parts_of(file, model, embeddings=True, loras=["unet"]),
        "embeddings only": parts_of(file, model, embeddings=True, loras=[]),
    }
    for kind, parts in kinds.items():
        _say(f"\n== {kind}")
        _measure(model, parts, reader, options)
    _say("\n== without the bundle, by the initialization text")
    _measure(model, Parts({}, []), reader, options, by_words=True)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def draw(character: Character, pose: Pose, style: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a character; uint8, shape ``(64, 64, 3)``."""
    canvas = Canvas(COLORS[pose.background], style)
    x, y, radius = place(pose.size, pose.position, rng)
    r = min(radius, _RADIUS)
    shape, color, pattern = _BODIES[character.body]

    def part(shape: str, x: float, y: float, r: float, color: tuple[int, int, int], pattern: str = "plain") -> None:
        points = outline(shape, x, y, r)
        canvas.polygon(points, color)
        canvas.pattern(points, pattern, darkened(color))

    if character.part == 1:
        for side in (-1, 1):
            part("square", x + side * 0.5 * r, y + 0.85 * r, 0.32 * r, COLORS[_PART_COLOR])
    part(shape, x, y + 0.1 * r, 0.95 * r, color, pattern)
    if character.part == 0:
        part("triangle", x, y - 0.9 * r, 0.42 * r, COLORS[_PART_COLOR])
    if character.part == 2:
        part("circle", x, y + 0.1 * r, 0.42 * r, COLORS[_PART_COLOR])
    return canvas.finish()


def write_data(folder: Path, counts: Sequence[int] = _COUNTS, style_images: int = _STYLE_IMAGES) -> Path:
    """The images with their captions, each character in a folder of its own.

    Args:
        folder: is made.
        counts: number of images of each character.
        style_images: number of images in the style of each character that is seen in it.
    """
    layouts = list(product(SIZES, POSITIONS))
    for index, (character, count) in enumerate(zip(CAST, counts, strict=True)):
        in_style = style_images if character.part == 0 else 0
        own = folder / character.name
        own.mkdir(parents=True, exist_ok=True)
        for number in range(count + in_style):
            style = "a" if number < count else "b"
            background = character.backgrounds[(number + index) % len(character.backgrounds)]
            # Each time all backgrounds have been used, the layouts move on, so that they combine in many ways.
            layout = layouts[(number + number // len(character.backgrounds) + index) % len(layouts)]
            pose = Pose(*layout, background)
            rng = np.random.default_rng([index, number])
            path = own / f"{number:02}.png"
            Image.fromarray(draw(character, pose, style, rng)).save(path)
            names = character.name if style == "a" else f"{character.name}, {STYLE}"
            path.with_suffix(".txt").write_text(f"{names}, {pose.size}, {background} background\n", encoding="utf-8")
    return folder


def config(checkpoint: Path, data: Path, steps: int) -> TrainConfig:
    """The preset for casts; more vectors than there, because a token of the small model is a twelfth as long."""
    characters = [{"name": item.name, "init_text": item.words, "vectors": 8} for item in CAST]
    style = {"name": STYLE, "init_text": "dark", "vectors": 8, "class_noun": "style"}
    values = {
        "checkpoint": str(checkpoint),
        "concepts": [*characters, style],
        "data_folder": str(data),
        "resolution": 64,
        "steps": steps,
        "batch_size": 8,
        "sample_every": 0,
        "output_name": "cast",
        "if_exists": "overwrite",
    }
    read, problems = read_dict(with_preset(values, "cast-sd1"))
    if problems:
        raise ConfigError(problems)
    return read


def _train(checkpoint: Path, data: Path, out: Path, steps: int) -> Path:
    outcome = train_run(config(checkpoint, data, steps), (), out)
    if outcome.outcome != "done" or outcome.bundle_path is None:
        raise SystemExit("The training was stopped.")
    _say(f"{outcome.step} steps")
    return outcome.bundle_path


class Reader:
    """Says which character an image shows, by the nearest of its drawings in all poses, in both styles."""

    def __init__(self) -> None:
        self._labels: list[tuple[int, str, str]] = []
        drawings = []
        for style, (index, character), size, position, background in product(
            "ab", enumerate(CAST), SIZES, POSITIONS, BACKGROUNDS
        ):
            if background not in character.backgrounds:
                continue
            self._labels.append((index, background, style))
            rng = _NoVariation()
            drawings.append(_small(draw(character, Pose(size, position, background), style, rng)))  # type: ignore[arg-type]
        self._drawings = np.stack(drawings)
        self._squares = (self._drawings**2).sum(1)

    def read(self, image: np.ndarray) -> tuple[int, str, str]:
        """Index of the character, background and style.

        Args:
            image: uint8, shape ``(64, 64, 3)``.
        """
        # Small shifts of the image stand for the variation of the position.
        shifts = [np.roll(image, (dy, dx), (0, 1)) for dy in (-3, 0, 3) for dx in (-2, 0, 2)]
        distances = np.stack([self._squares - 2 * self._drawings @ _small(shifted) for shifted in shifts]).min(0)
        return self._labels[int(distances.argmin())]

    def accuracy(self) -> float:
        """Share of new drawings whose character, background and style are all read correctly."""
        right = []
        for (index, character), style, number in product(enumerate(CAST), "ab", range(8)):
            rng = np.random.default_rng([99, index, number])
            pose = Pose(*(str(rng.choice(list(words))) for words in (SIZES, POSITIONS, character.backgrounds)))
            right.append(self.read(draw(character, pose, style, rng)) == (index, pose.background, style))
        return float(np.mean(right))


class _NoVariation:
    """Stands for a random generator and gives the middle of every range."""

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


def _small(image: np.ndarray) -> np.ndarray:
    """The image at half size as a vector of fp32."""
    return image.reshape(32, 2, 32, 2, 3).mean((1, 3)).astype(np.float32).ravel()


@torch.no_grad()
def images_of(
    model: DiffusersModel,
    parts: Parts,
    prompts: list[str],
    seeds: list[int],
    *,
    negatives: Sequence[str] = (),
    guidance: float = _GUIDANCE,
    steps: int = _STEPS,
) -> list[np.ndarray]:
    """Images by Euler steps with guidance, all of them in one batch; uint8, each of shape ``(64, 64, 3)``.

    Args:
        model: draws.
        parts: what is switched on, for the negative prompts, too.
        prompts: one per image.
        seeds: one per image.
        negatives: negative prompts, one per image; without any they are empty.
        guidance: scale of the guidance.
        steps: number of sampling steps.
    """
    count, timesteps = len(prompts), torch.linspace(999, 0, steps).round().long()
    alphas = model.alphas_cumprod[timesteps]
    sigmas = [*((1 - alphas) / alphas).sqrt().tolist(), 0.0]
    sizes = [ImageSize((64, 64), (0, 0), (64, 64))] * (2 * count)
    conditioner = TextConditioner(model, EmbeddingWeights.of(parts.embeddings, model.device))
    with attach(parts.loras):
        (text,) = conditioner.encode([*prompts, *(negatives or [""] * count)], sizes)
        noise = [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        x = torch.stack(noise) * sigmas[0]
        for timestep, sigma, next_sigma in zip(timesteps, sigmas[:-1], sigmas[1:], strict=True):
            scaled = torch.cat([x, x]) / (sigma**2 + 1) ** 0.5
            with with_negative_rows(NegativeRows(count, 2 * count)):
                output = model.predict(scaled, timestep.expand(2 * count), text.conditioning)
            guided = output[count:] + guidance * (output[:count] - output[count:])
            x = x + (next_sigma - sigma) * guided
    pixels = torch.cat([model.vae.decode(part) for part in x.split(1)])
    return list((pixels.permute(0, 2, 3, 1) * 255).round().byte().numpy())


def _measure(
    model: DiffusersModel, parts: Parts, reader: Reader, options: argparse.Namespace, *, by_words: bool = False
) -> None:
    confusion: Counter[tuple[int, int]] = Counter()
    background_right, style_right, who_in_style = [], [], []
    rows = []
    seeds = list(range(options.seeds))
    for index, character in enumerate(CAST):
        name = character.words if by_words else character.name
        asked = [character.backgrounds[seed % len(character.backgrounds)] for seed in seeds]
        prompts = [name] * len(seeds) + [f"{name}, large, {background} background" for background in asked]
        # The style with characters that were never seen in it.
        prompts += [f"{name}, {STYLE}"] * len(seeds) if character.part and not by_words else []
        images = images_of(model, parts, prompts, (seeds * 3)[: len(prompts)])
        readings = [reader.read(image) for image in images]
        groups = [readings[start : start + len(seeds)] for start in range(0, len(readings), len(seeds))]
        confusion.update((index, who) for who, _, _ in groups[0])
        background_right += [shown == background for (_, shown, _), background in zip(groups[1], asked, strict=True)]
        style_right += [style == "b" for group in groups[2:] for _, _, style in group]
        who_in_style += [who == index for group in groups[2:] for who, _, _ in group]
        rows.append((name, [Image.fromarray(image) for image in images[: 2 * len(seeds)]]))
    total = options.seeds * len(CAST)
    same_body = sum(count for (a, b), count in confusion.items() if CAST[a].body == CAST[b].body)
    _say(f"right character: {sum(confusion[index, index] for index in range(len(CAST))) / total:.0%} of {total}")
    _say(f"right body: {same_body / total:.0%}; asked-for background: {np.mean(background_right):.0%}")
    if style_right:
        _say(f"style with characters never seen in it: {np.mean(style_right):.0%}")
        _say(f"right character in the style: {np.mean(who_in_style):.0%}")
    _print_confusion(confusion)
    file = options.out / f"cast-{'words' if by_words else 'whole' if parts.loras else 'embeddings'}.png"
    grid(rows, [""] * (2 * len(seeds)), side=64).save(file)


def _print_confusion(confusion: Counter[tuple[int, int]]) -> None:
    """One row for each name: how many of its images show whom."""
    _say("| name | " + " | ".join(character.name[:4] for character in CAST) + " |\n|---|" + "---|" * len(CAST))
    for index, character in enumerate(CAST):
        cells = (str(confusion[index, who] or "") for who in range(len(CAST)))
        _say(f"| {character.name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
