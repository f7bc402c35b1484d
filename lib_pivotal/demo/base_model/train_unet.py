"""Training the small UNet (and, for base A, the text encoder) on cached latents."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.demo.base_model.stage import Stage
from lib_pivotal.demo.shapes import LATENT_SCALE
from lib_pivotal.demo.world import Scene, caption, draw, random_scene

__all__ = ["Drawn", "draw_latents", "schedule", "train_unet"]

logger = logging.getLogger("pivotal.demo.unet")

_EMPTY = 0.1
"""Probability of an empty caption, which guidance needs."""
_SHORT_ROW, _FULL_ROW = 20, 77
"""Tokens per row: captions fit into the short one, which costs a quarter less; hosts use the full one."""
_SHORT_SHARE = 0.7
"""Share of the steps with short rows and half batches; the other steps see what a host will use."""


@dataclass(frozen=True)
class Drawn:
    """Scenes and the latents of their images, fp32, shape ``(count, 4, 8, 8)``."""

    scenes: list[Scene]
    latents: torch.Tensor


def schedule() -> torch.Tensor:
    """SD1's cumulative alphas, fp32, shape ``(1000,)``."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


@torch.no_grad()
def draw_latents(vae: AutoencoderKL, style: str, count: int, seed: int, device: str) -> Drawn:
    """Draw ``count`` images in style ``"a"`` or ``"b"`` and encode them."""
    rng = np.random.default_rng(seed)
    vae = vae.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scenes, parts = [], []
    for start in range(0, count, 64):
        some = [random_scene(rng) for _ in range(min(64, count - start))]
        pixels = torch.from_numpy(np.stack([draw(scene, style, rng) for scene in some]))
        pixels = (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).to(device, memory_format=torch.channels_last)
        parts.append(vae.encode(pixels).latent_dist.mean.float() * LATENT_SCALE)
        scenes += some
    return Drawn(scenes, torch.cat(parts))


def train_unet(
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    drawn: Drawn,
    tokenize: Callable[[Sequence[str], int], torch.Tensor],
    *,
    steps: int,
    batch: int,
    lr: float,
    trains_text: bool,
    device: str,
    keep: Path | None = None,
    snapshot: Callable[[int], None] = lambda step: None,
) -> None:
    """Train in place; at the end the weights are their moving average.

    Args:
        unet: changed in place.
        text: changed in place if ``trains_text``, else frozen.
        drawn: the data.
        tokenize: captions, row length → int64 ids ``(B, length)``.
        steps: optimizer steps.
        batch: images per step at the end; the first steps use half as many.
        lr: highest learning rate.
        trains_text: whether the text encoder is trained too.
        device: torch device.
        keep: file from which an interrupted training is resumed.
        snapshot: called with the step every 500 steps, while the weights are their average.
    """
    torch.manual_seed(2)
    rng = np.random.default_rng(2)
    unet.to(device).train()
    text.to(device).train(trains_text).requires_grad_(trains_text)
    trained = [*unet.parameters(), *(text.parameters() if trains_text else ())]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    average = [parameter.detach().clone() for parameter in trained]
    objective = Objective(schedule(), is_v_prediction=False, min_snr_gamma=5.0, device=torch.device(device))
    latents = drawn.latents.to(device)
    stage = Stage(keep, [parameter.detach() for parameter in trained], average, optimizer, rng)
    started, recent = time.time(), []
    for step in range(stage.resume(), steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * _cosine(step / steps))
        is_early = step < _SHORT_SHARE * steps
        size, row = (batch // 2, _SHORT_ROW) if is_early else (batch, _FULL_ROW)
        index = rng.integers(len(drawn.scenes), size=size)
        captions = ["" if rng.random() < _EMPTY else caption(drawn.scenes[i], rng) for i in index]
        chosen = latents[torch.from_numpy(index).to(device)]
        noise, timesteps = torch.randn_like(chosen), torch.randint(0, 1000, (size,), device=device)
        hidden = text(tokenize(captions, row).to(device)).last_hidden_state
        prediction = unet(objective.noisy(chosen, noise, timesteps), timesteps, hidden).sample
        loss = objective.losses(prediction, chosen, noise, timesteps).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        decay = min(0.998, step / (step + 10))
        torch._foreach_lerp_(average, [parameter.detach() for parameter in trained], 1 - decay)
        recent.append(loss.item())
        if step % 50 == 0:
            logger.info("unet %d loss %.4f %.0fs", step, sum(recent[-50:]) / len(recent[-50:]), time.time() - started)
        stage.keep(step + 1)
        if step % 500 == 499:
            _with_average(trained, average, lambda done=step + 1: snapshot(done))
    with torch.no_grad():
        for parameter, value in zip(trained, average, strict=True):
            parameter.copy_(value)
    unet.eval()
    text.eval()


def _with_average(trained: list[torch.Tensor], average: list[torch.Tensor], action: Callable[[], None]) -> None:
    """Run ``action`` while the parameters hold their average."""
    live = [parameter.detach().clone() for parameter in trained]
    with torch.no_grad():
        for parameter, value in zip(trained, average, strict=True):
            parameter.copy_(value)
        action()
        for parameter, value in zip(trained, live, strict=True):
            parameter.copy_(value)


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))
