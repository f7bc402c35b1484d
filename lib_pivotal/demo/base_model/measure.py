"""How well the base models follow captions: ``python -m lib_pivotal.demo.base_model.measure``.

Chooses random captions from the world, generates an image for each with each base model, reads the images back and
prints in what share of them shape, color, background, size and pattern are as the caption says.
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

from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.base_model.reader import read
from lib_pivotal.demo.world import Scene, caption, random_scene
from lib_pivotal.host.diffusers.checkpoint import load_networks
from lib_pivotal.host.diffusers.networks import Networks

__all__ = ["ASPECTS", "contact_sheet", "generate", "score"]

ASPECTS = ("shape", "color", "background", "size", "pattern")
_TOGETHER = ("shape", "color")


@torch.no_grad()
def generate(
    networks: Networks, captions: Sequence[str], *, seed: int = 0, steps: int = 20, guidance: float = 4.0
) -> np.ndarray:
    """Images for captions, by DDIM with classifier-free guidance.

    Args:
        networks: a loaded base model.
        captions: one per image.
        seed: of the initial noise.
        steps: denoising steps.
        guidance: weight of the caption against the empty caption; 1 means no guidance.

    Returns:
        uint8, shape ``(len(captions), 64, 64, 3)``.
    """
    prompts = [*captions, ""]
    rows = networks.texts[0].tokenizer(prompts, padding="max_length", max_length=77, truncation=True)["input_ids"]
    hidden = networks.texts[0].model(torch.tensor(rows)).last_hidden_state  # (B + 1, 77, width)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    noise = torch.randn(len(captions), 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    images = []
    for start, cond in zip(noise.split(50), hidden[:-1].split(50), strict=True):
        latents, context = start, torch.cat([hidden[-1:].expand_as(cond), cond])
        for timestep in scheduler.timesteps:
            eps_uncond, eps_cond = networks.unet(torch.cat([latents, latents]), timestep, context).sample.chunk(2)
            eps = eps_uncond + guidance * (eps_cond - eps_uncond)
            latents = scheduler.step(eps, timestep, latents).prev_sample
        decoded = networks.vae.decode(latents / networks.scale).sample
        images.append(((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(images)


def score(scenes: Sequence[Scene], images: np.ndarray, style: str) -> dict[str, float]:
    """Share of the images that show what their scenes say.

    Args:
        scenes: what each image should show.
        images: uint8, shape ``(len(scenes), 64, 64, 3)``.
        style: ``"a"`` or ``"b"``.

    Returns:
        For each of :data:`ASPECTS`, and for shape and color together (``shape+color``): 0 … 1.
    """
    readings = [read(image, style) for image in images]
    pairs = list(zip(scenes, readings, strict=True))
    shares = {name: float(np.mean([getattr(s, name) == getattr(r, name) for s, r in pairs])) for name in ASPECTS}
    both = [all(getattr(s, name) == getattr(r, name) for name in _TOGETHER) for s, r in pairs]
    return {**shares, "+".join(_TOGETHER): float(np.mean(both))}


def contact_sheet(images: np.ndarray, columns: int = 12) -> Image.Image:
    """Images in rows and columns, two px apart."""
    side = images.shape[1] + 2
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * side), (30, 30, 34))
    for number, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (number % columns * side + 1, number // columns * side + 1))
    return sheet


def main() -> None:
    """Measure the embedded base models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bases", default="ab", help="a, b or ab")
    parser.add_argument("--count", type=int, default=200, help="images per base model")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets of the first images")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bases = materialize(Path(folder))
        for base, path in (("a", bases.a), ("b", bases.b)):
            if base not in options.bases:
                continue
            rng = np.random.default_rng(options.seed)
            scenes = [random_scene(rng) for _ in range(options.count)]
            captions = [caption(scene) for scene in scenes]
            images = generate(
                load_networks(path), captions, seed=options.seed, steps=options.steps, guidance=options.guidance
            )
            shares = score(scenes, images, base)
            sys.stdout.write(f"base {base}: " + ", ".join(f"{n} {100 * v:.1f} %" for n, v in shares.items()) + "\n")
            if options.sheets:
                options.sheets.mkdir(parents=True, exist_ok=True)
                contact_sheet(images[:60]).save(options.sheets / f"base_{base}.png")


if __name__ == "__main__":
    main()
