"""Trains the character and the style of docs/guide.md and makes the guide's images: ``run.py bench guide``.

Both are trained on the embedded small model with its learning rates, from images that are drawn here. The character is
the demo's first one. The style is the dark one with outlines and hatching; its images show four of the world's shapes,
so that the other two show what the style does to something that it was never seen on.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.baseline import baseline
from benchmarks.cast import CAST, STYLE, images_of
from benchmarks.cast import draw as draw_member
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import Bundle, read_bundle
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.demo.__main__ import NAMES
from lib_pivotal.demo.assets import Bases, materialize
from lib_pivotal.demo.characters import Pose, write_dataset
from lib_pivotal.demo.evaluate import Parts, parts_of
from lib_pivotal.demo.report import grid
from lib_pivotal.demo.world import caption, draw, random_scene
from lib_pivotal.host.diffusers.model import DiffusersModel, load_model

CHARACTER = NAMES[0]
_WORDS = "blue square"
_CORE_TAGS = (_WORDS, "striped")
_SEEN = ("circle", "square", "triangle", "cross")
_STYLE_IMAGES = 40
_SEED = 3
_SIDE, _STYLE_SIDE, _CAST_SIDE = 96, 112, 44
"""Sides of the images in px, by the length of the prompts above them."""
_COLORS = 96
"""Enough for the few colors of these drawings, and a file of a fraction of the size."""

_CHARACTER_PROMPTS = (
    f"{CHARACTER}",
    f"{CHARACTER}, large, red background",
    f"{CHARACTER}, small, pink background",
    f"{CHARACTER}, large, white background",
    f"{CHARACTER}, small, purple background",
)
"""The last two backgrounds are on none of the images."""
_STYLE_PROMPTS = (
    f"a large red circle, yellow background, {STYLE}",
    f"a large striped blue square, pink background, {STYLE}",
    f"a large yellow star, blue background, {STYLE}",
    f"a large pink heart, green background, {STYLE}",
)
"""The last two shapes are on none of the images."""


def main() -> None:
    """Train both, and write the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out/guide"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--cast", type=Path, metavar="BUNDLE", help="also show the names of a bundle of bench cast")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bases = materialize(options.out / "model")
    subject = Concept(CHARACTER, _WORDS, vectors=8, core_tags=_CORE_TAGS)
    character = _trained(bases, _character_data(options.out), subject, options)
    look = Concept(STYLE, "dark", vectors=8, class_noun="style")
    style = _trained(bases, _style_data(options.out), look, options)
    _contact_sheet(options.out / CHARACTER).save(options.out / "guide-character-images.png")
    _contact_sheet(options.out / STYLE).save(options.out / "guide-style-images.png")
    a, b = load_model(bases.a), load_model(bases.b)
    _save(_character_rows(a, b, character), _CHARACTER_PROMPTS, options.out / "guide-character.png")
    prompts = (*_STYLE_PROMPTS, _both())
    _save(_style_rows(a, character, style), prompts, options.out / "guide-style.png", side=_STYLE_SIDE)
    if options.cast:
        names = tuple(member.name for member in CAST)
        _save(_cast_rows(a, read_bundle(options.cast)), names, options.out / "guide-cast.png", side=_CAST_SIDE)


def _character_data(out: Path) -> Path:
    """The demo's images, with captions that also have the core tags, as those of a tagging program."""
    for path in write_dataset(out / CHARACTER, CHARACTER):
        text = path.with_suffix(".txt")
        changing = text.read_text(encoding="utf-8").removeprefix(f"{CHARACTER}, ")
        text.write_text(f"{CHARACTER}, {', '.join(_CORE_TAGS)}, {changing}", encoding="utf-8")
    return out / CHARACTER


def _style_data(out: Path) -> Path:
    """Scenes of the world in the style, with its name in front of the caption."""
    folder = out / STYLE
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    scenes = (random_scene(rng) for _ in range(10 * _STYLE_IMAGES))
    seen = [scene for scene in scenes if scene.shape in _SEEN][:_STYLE_IMAGES]
    for number, scene in enumerate(seen, 1):
        path = folder / f"{number:02}.png"
        Image.fromarray(draw(scene, "b", rng)).save(path)
        path.with_suffix(".txt").write_text(f"{STYLE}, {caption(scene)}\n", encoding="utf-8")
    return folder


def _trained(bases: Bases, data: Path, concept: Concept, options: argparse.Namespace) -> Bundle:
    """The bundle of a concept; one that is already in the output folder is used again."""
    done = options.out / f"{concept.name}.safetensors"
    if done.exists():
        return read_bundle(done)
    config: TrainConfig = dataclasses.replace(
        baseline(bases.a, data, options.steps), concepts=(concept,), output_name=concept.name
    )
    outcome = train_run(config, (), options.out)
    if outcome.outcome != "done" or outcome.bundle_path is None:
        raise SystemExit("The training was stopped.")
    return read_bundle(outcome.bundle_path)


def _character_rows(a: DiffusersModel, b: DiffusersModel, bundle: Bundle) -> Iterator[tuple[str, list[Image.Image]]]:
    for title, model in (("", a), (", another checkpoint", b)):
        yield f"whole bundle{title}", _images(model, [_whole(bundle, model)], _CHARACTER_PROMPTS)
        only = parts_of(bundle, model, embeddings=True, loras=[])
        yield f"embeddings only{title}", _images(model, [only], _CHARACTER_PROMPTS)
    words = [prompt.replace(CHARACTER, _WORDS) for prompt in _CHARACTER_PROMPTS]
    yield f"no bundle, the words “{_WORDS}”", _images(a, [], words)


def _style_rows(model: DiffusersModel, character: Bundle, style: Bundle) -> Iterator[tuple[str, list[Image.Image]]]:
    others = [parts_of(character, model, embeddings=True, loras=["unet", "clip_l"])]
    only = parts_of(style, model, embeddings=True, loras=[])
    for title, parts, name in (
        ("whole bundle", [_whole(style, model)], f", {STYLE}"),
        ("embeddings only", [only], f", {STYLE}"),
        ("no bundle of the style", [], ""),
    ):
        prompts = [prompt.replace(f", {STYLE}", name) for prompt in _STYLE_PROMPTS]
        both = _images(model, [*others, *parts], [_both().replace(f", {STYLE}", name)])
        yield title, [*_images(model, parts, prompts), *both]


def _cast_rows(model: DiffusersModel, bundle: Bundle) -> Iterator[tuple[str, list[Image.Image]]]:
    pose = Pose("large", "center", "white")
    yield "training image", [Image.fromarray(draw_member(m, pose, "a", np.random.default_rng(0))) for m in CAST]
    prompts = [f"{member.name}, large, white background" for member in CAST]
    yield "whole bundle", _images(model, [_whole(bundle, model)], prompts)
    yield "embeddings only", _images(model, [parts_of(bundle, model, embeddings=True, loras=[])], prompts)


def _both() -> str:
    return f"{CHARACTER}, large, red background, {STYLE}"


def _whole(bundle: Bundle, model: DiffusersModel) -> Parts:
    return parts_of(bundle, model, embeddings=True, loras=["unet", "clip_l"])


def _images(model: DiffusersModel, parts: list[Parts], prompts: tuple[str, ...] | list[str]) -> list[Image.Image]:
    """An image of each prompt, all with the same seed."""
    embeddings = {name: vectors for part in parts for name, vectors in part.embeddings.items()}
    together = Parts(embeddings, [lora for part in parts for lora in part.loras])
    return [Image.fromarray(image) for image in images_of(model, together, list(prompts), [_SEED] * len(prompts))]


def _save(
    rows: Iterator[tuple[str, list[Image.Image]]], titles: tuple[str, ...], path: Path, *, side: int = _SIDE
) -> None:
    _small(grid(list(rows), titles, side=side)).save(path, optimize=True)


def _contact_sheet(folder: Path) -> Image.Image:
    """The first images of a data set next to each other."""
    images = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))[:8]]
    sheet = Image.new("RGB", (len(images) * (_SIDE + 6), _SIDE), (255, 255, 255))
    for number, image in enumerate(images):
        sheet.paste(image.resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (number * (_SIDE + 6), 0))
    return _small(sheet)


def _small(image: Image.Image) -> Image.Image:
    return image.quantize(_COLORS, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
