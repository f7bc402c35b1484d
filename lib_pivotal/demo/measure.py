"""How well the bases follow their captions: ``python -m lib_pivotal.demo.measure``.

Draws captions from the world, has each base make a picture for each, reads the pictures back and prints the
share in which shape, colour, ground and all else are as the caption said.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from PIL import Image

from lib_pivotal.demo.assets import materialise
from lib_pivotal.demo.reader import read
from lib_pivotal.demo.world import Scene, caption, random_scene
from lib_pivotal.host.diffusers.checkpoint import Networks, load_networks

__all__ = ["ASPECTS", "contact_sheet", "generate", "score"]

ASPECTS = ("shape", "colour", "background", "size", "pattern")
_TOGETHER = ("shape", "colour")


@torch.no_grad()
def generate(
    networks: Networks, captions: Sequence[str], *, seed: int = 0, steps: int = 20, guidance: float = 4.0
) -> np.ndarray:
    """Pictures for captions, by DDIM with classifier-free guidance.

    Args:
        networks: a loaded base.
        captions: one a picture.
        seed: of the start noise.
        steps: denoising steps.
        guidance: weight of the caption against the empty caption; 1 is none.

    Returns:
        uint8, shape ``(len(captions), 64, 64, 3)``.
    """
    words = [*captions, ""]
    rows = networks.texts[0].tokenizer(words, padding="max_length", max_length=77, truncation=True)["input_ids"]
    hidden = networks.texts[0].model(torch.tensor(rows)).last_hidden_state  # (B + 1, 77, width)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    noise = torch.randn(len(captions), 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    pictures = []
    for start, named in zip(noise.split(50), hidden[:-1].split(50), strict=True):
        latents, context = start, torch.cat([hidden[-1:].expand_as(named), named])
        for timestep in scheduler.timesteps:
            plain, told = networks.unet(torch.cat([latents, latents]), timestep, context).sample.chunk(2)
            latents = scheduler.step(plain + guidance * (told - plain), timestep, latents).prev_sample
        decoded = networks.vae.decode(latents / networks.scale).sample
        pictures.append(((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(pictures)


def score(scenes: Sequence[Scene], pictures: np.ndarray, style: str) -> dict[str, float]:
    """Share of the pictures that show what their scenes say.

    Args:
        scenes: what each picture should show.
        pictures: uint8, shape ``(len(scenes), 64, 64, 3)``.
        style: ``"a"`` or ``"b"``.

    Returns:
        For each of :data:`ASPECTS`, and for shape and colour together (``shape+colour``): 0 … 1.
    """
    readings = [read(picture, style) for picture in pictures]
    pairs = list(zip(scenes, readings, strict=True))
    shares = {name: float(np.mean([getattr(s, name) == getattr(r, name) for s, r in pairs])) for name in ASPECTS}
    both = [all(getattr(s, name) == getattr(r, name) for name in _TOGETHER) for s, r in pairs]
    return {**shares, "+".join(_TOGETHER): float(np.mean(both))}


def contact_sheet(pictures: np.ndarray, columns: int = 12) -> Image.Image:
    """Pictures side by side, row by row, two px apart."""
    side = pictures.shape[1] + 2
    sheet = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * side), (30, 30, 34))
    for number, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (number % columns * side + 1, number // columns * side + 1))
    return sheet


def main() -> None:
    """Measure the shipped bases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bases", default="ab", help="a, b or ab")
    parser.add_argument("--count", type=int, default=200, help="pictures a base")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets of the first pictures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bases = materialise(Path(folder))
        for base, path in (("a", bases.a), ("b", bases.b)):
            if base not in options.bases:
                continue
            rng = np.random.default_rng(options.seed)
            scenes = [random_scene(rng) for _ in range(options.count)]
            captions = [caption(scene) for scene in scenes]
            pictures = generate(
                load_networks(path), captions, seed=options.seed, steps=options.steps, guidance=options.guidance
            )
            shares = score(scenes, pictures, base)
            sys.stdout.write(f"base {base}: " + ", ".join(f"{n} {100 * v:.1f} %" for n, v in shares.items()) + "\n")
            if options.sheets:
                options.sheets.mkdir(parents=True, exist_ok=True)
                contact_sheet(pictures[:60]).save(options.sheets / f"base_{base}.png")


if __name__ == "__main__":
    main()
