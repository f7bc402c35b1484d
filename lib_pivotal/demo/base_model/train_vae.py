"""Training the small VAE on drawings in both styles and on random doodles."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch.nn import functional

from lib_pivotal.demo.base_model.networks import make_vae
from lib_pivotal.demo.base_model.stage import Stage
from lib_pivotal.demo.draw import COLORS, Canvas, outline
from lib_pivotal.demo.shapes import LATENT_SCALE
from lib_pivotal.demo.world import draw, random_scene

__all__ = ["doodle", "fold_latents", "train_vae"]

logger = logging.getLogger("pivotal.demo.vae")

_HINTED = 1500
"""Steps over which the color hint fades out."""


def doodle(rng: np.random.Generator) -> np.ndarray:
    """An image that is not from the world: shapes with eyes, limbs and rings in any color; uint8, (64, 64, 3)."""
    colors = [*list(COLORS.values()), (20, 20, 25), (30, 160, 160), (120, 70, 30), (200, 20, 140)]

    def pick() -> tuple[int, int, int]:
        base = np.array(colors[rng.integers(len(colors))]) + rng.normal(0, 12, 3)
        red, green, blue = np.clip(base, 0, 255).astype(int)
        return int(red), int(green), int(blue)

    canvas = Canvas(pick(), "ab"[rng.integers(2)])
    for _ in range(rng.integers(1, 4)):
        shape = str(rng.choice(["circle", "square", "triangle", "star", "heart", "cross", "hexagon"]))
        x, y, radius = rng.uniform(10, 54), rng.uniform(10, 54), rng.uniform(8, 24)
        points = outline(shape, x, y, radius)
        color = pick()
        for _ in range(rng.integers(0, 3)):
            angle = rng.uniform(0, 2 * math.pi)
            end = (x + 1.6 * radius * math.cos(angle), y + 1.6 * radius * math.sin(angle))
            canvas.line([(x, y), end], float(rng.uniform(1.5, 4)), pick())
        canvas.polygon(points, color)
        canvas.pattern(points, str(rng.choice(["plain", "striped", "dotted"])), pick())
        for _ in range(rng.integers(0, 4)):
            ex, ey, er = x + rng.uniform(-0.6, 0.6) * radius, y + rng.uniform(-0.6, 0.6) * radius, rng.uniform(1.5, 6)
            canvas.disc(ex, ey, er, pick())
            if rng.random() < 0.5:
                canvas.disc(ex, ey, er * 0.5, (15, 15, 20))
    return canvas.finish()


def _batch(size: int, rng: np.random.Generator) -> torch.Tensor:
    images = []
    for _ in range(size):
        is_doodle = rng.random() < 0.25
        style = "ab"[rng.integers(2)]
        images.append(doodle(rng) if is_doodle else draw(random_scene(rng), style, rng))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _edges(error: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of the differences between neighboring pixels; without it all images are blurred."""
    return (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()) / 2


def train_vae(path: Path, steps: int = 6000, batch: int = 8, device: str = "cpu") -> AutoencoderKL:
    """Train, fold and save the VAE; if the file exists, it is loaded instead.

    The mean of the posterior plus a little noise is decoded: if the posterior were sampled from the first step on, so
    small a model would learn nothing. At first three latent channels are kept close to each cell's mean color, so that
    colors are learned at once.

    Args:
        path: safetensors file of the finished VAE with diffusers' names.
        steps: optimizer steps.
        batch: images per step.
        device: torch device.
    """
    vae = make_vae()
    if path.exists():
        vae.load_state_dict(load_file(path))
        return vae
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    vae = make_vae().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=1e-4)
    average = {name: value.detach().clone() for name, value in vae.state_dict().items()}
    weights = list(vae.state_dict().values())
    stage = Stage(path.with_suffix(".part"), weights, list(average.values()), optimizer, rng)
    started = time.time()
    for step in range(stage.resume(), steps):
        lr = 5e-4 * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        pixels = _batch(batch, rng).to(device, memory_format=torch.channels_last)
        mean = vae.encode(pixels).latent_dist.mean
        decoded = vae.decode(mean + 0.05 * torch.randn_like(mean)).sample
        error = decoded - pixels
        loss = error.abs().mean() + 0.5 * error.pow(2).mean() + 3e-3 * (mean.pow(2) - 1).clamp(min=0).mean()
        hint = (mean[:, :3] - functional.avg_pool2d(pixels, 8)).pow(2).mean()
        loss = loss + _edges(error) + max(0.0, 1 - step / _HINTED) * hint
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        decay = min(0.995, step / (step + 20))
        with torch.no_grad():
            for name, value in vae.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        if step % 50 == 0:
            logger.info("vae %d l1 %.4f hint %.4f z %.2f %.0fs", step, error.abs().mean().item(),
                        hint.item(), mean.std().item(), time.time() - started)  # fmt: skip
        stage.keep(step + 1)
    vae.load_state_dict(average)
    fold_latents(vae, _batch(256, rng).to(device))
    save_file({name: value.contiguous().cpu() for name, value in vae.state_dict().items()}, path)
    return vae.cpu()


@torch.no_grad()
def fold_latents(vae: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Shift and scale the latents to what SD1 hosts expect, within the VAE's own 1×1 convolutions.

    Afterwards every latent channel of ``pixels`` has mean 0 and standard deviation ``1 / LATENT_SCALE``
    and the posterior's own standard deviation is a small constant.

    Args:
        vae: changed in place.
        pixels: fp32, shape ``(B, 3, 64, 64)``, -1 … 1.
    """
    means = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(32)])
    shift = means.mean((0, 2, 3))
    scale = 1.0 / (means.std((0, 2, 3)) * LATENT_SCALE)
    quant, post = vae.quant_conv, vae.post_quant_conv
    # decoded = post(z / scale + shift): input columns absorb the scale, the bias absorbs the shift.
    post.bias += (post.weight[:, :, 0, 0] * shift).sum(1)
    post.weight /= scale[None, :, None, None]
    quant.weight[:4] *= scale[:, None, None, None]
    quant.bias[:4] = (quant.bias[:4] - shift) * scale
    quant.weight[4:] = 0
    quant.bias[4:] = 2 * math.log(0.05 / LATENT_SCALE)
