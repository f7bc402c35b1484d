"""Held-out denoising loss: how well a model knows images that it was not trained on, given their captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from lib_pivotal.core.bundle.file import Bundle
from lib_pivotal.core.data.pixels import load_pixels
from lib_pivotal.core.diffusion.item_random import item_seed
from lib_pivotal.core.diffusion.noise import item_noise
from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.negative_rows import NegativeRows, with_negative_rows
from lib_pivotal.core.ports import DiffusionModel, ImageSize
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner

__all__ = ["HeldOut", "Parts", "drift_of", "held_out", "loss_of", "parts_of"]

_TIMESTEPS = (500, 900)
"""The timesteps that decide the content of images this small: earlier it is visible, later hardly anything is.

Source: the noise that hides an image grows with its size, Hoogeboom et al. 2023, https://arxiv.org/abs/2301.11093
"""
_PAIRS = 8
"""Noise levels per image; the same for each row of a table, so that rows can be compared."""


@dataclass(frozen=True)
class HeldOut:
    """Images that were not trained on: latents ``(n, 4, 8, 8)`` and captions."""

    latents: torch.Tensor
    captions: list[str]


@dataclass(frozen=True)
class Parts:
    """What is switched on: vectors by name and encoder, and LoRAs."""

    embeddings: Mapping[str, Mapping[str, torch.Tensor]]
    loras: Sequence[AdapterSet]


def parts_of(bundle: Bundle, model: DiffusionModel, *, embeddings: bool, loras: Sequence[str]) -> Parts:
    """Some parts of a bundle, fitted to a model.

    Args:
        bundle: as read from its file.
        model: the LoRA is made for its layers.
        embeddings: whether the names work in captions.
        loras: which LoRAs to switch on, ``"unet"`` and ``"clip_l"``.
    """
    targets = model.lora_targets()
    weights = [AdapterSet.from_state(part, targets, bundle.lora, model.device) for part in loras]
    return Parts(bundle.embeddings if embeddings else {}, weights)


def held_out(folder: Path, model: DiffusionModel) -> HeldOut:
    """Encode the images of a folder; captions are the ``.txt`` files next to them."""
    paths = sorted(folder.glob("*.png"))
    pixels = torch.stack([load_pixels(path, (64, 64), mirrored=False) for path in paths])
    mean, _ = model.vae.encode(pixels)
    return HeldOut(mean, [path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in paths])


@torch.no_grad()
def loss_of(
    model: DiffusionModel,
    data: HeldOut,
    captions: Sequence[str],
    parts: Parts,
    *,
    negatives: Sequence[str] = (),
    guidance: float = 1.0,
) -> torch.Tensor:
    """Mean squared error of the predicted noise, for each image.

    Args:
        model: the base model.
        data: held-out images.
        captions: one per image.
        parts: what is switched on.
        negatives: one per image; the prediction is then the combination of both with this guidance.
        guidance: see ``negatives``.

    Returns:
        fp32 on the CPU, shape ``(n,)``.

    Source: the score of a diffusion classifier, Li et al. 2023, https://arxiv.org/abs/2303.16203
    """
    total = torch.zeros(len(captions))
    for objective, batch in _predicted(model, data, captions, parts, negatives, guidance):
        total += objective.losses(batch.output, batch.latents, batch.noise, batch.timesteps).cpu()
    return total / _PAIRS


@torch.no_grad()
def drift_of(model: DiffusionModel, data: HeldOut, captions: Sequence[str], parts: Parts) -> torch.Tensor:
    """Mean squared difference between the predictions with and without some parts, for each image.

    Args:
        model: the base model.
        data: images that have nothing to do with what was trained.
        captions: one per image, without trained names.
        parts: what is switched on.

    Returns:
        fp32 on the CPU, shape ``(n,)``.
    """
    total = torch.zeros(len(captions))
    pairs = zip(_predicted(model, data, captions, parts), _predicted(model, data, captions, Parts({}, [])), strict=True)
    for (_, changed), (_, plain) in pairs:
        total += (changed.output - plain.output).float().pow(2).mean(dim=(1, 2, 3)).cpu()
    return total / _PAIRS


class _Predicted(NamedTuple):
    """Noisy images of one noise level, and the predicted noise; all ``(n, 4, 8, 8)`` but the timesteps ``(n,)``."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    output: torch.Tensor


def _predicted(
    model: DiffusionModel,
    data: HeldOut,
    captions: Sequence[str],
    parts: Parts,
    negatives: Sequence[str] = (),
    guidance: float = 1.0,
) -> Iterator[tuple[Objective, _Predicted]]:
    """Predictions for all images at each noise level, which are the same at every call."""
    objective = Objective(model.alphas_cumprod, is_v_prediction=False, min_snr_gamma=0.0, device=model.device)
    conditioner = TextConditioner(model, EmbeddingWeights.of(parts.embeddings, model.device))
    shape = tuple(data.latents.shape[1:])
    count = len(captions)
    latents = data.latents.to(model.device)
    for pair, level in enumerate(torch.linspace(*_TIMESTEPS, _PAIRS).round().long().tolist()):
        noise = torch.stack([item_noise(item_seed(0, index, pair), shape, 1)[0].noise for index in range(count)])
        noise, timesteps = noise.to(model.device), torch.full((count,), level, device=model.device)
        # Not kept attached between the levels, because two of these may alternate.
        with attach(parts.loras), model.autocast():
            # Each caption fits into one chunk, so all of them are encoded in one group.
            texts = [*captions, *negatives]
            (text,) = conditioner.encode(texts, [ImageSize((64, 64), (0, 0), (64, 64))] * len(texts))
            times = len(texts) // count
            noisy = objective.noisy(latents, noise, timesteps).repeat(times, 1, 1, 1)
            with with_negative_rows(NegativeRows(count, len(texts)) if negatives else None):
                output = model.predict(noisy, timesteps.repeat(times), text.conditioning)
            if negatives:
                output = torch.lerp(output[count:], output[:count], guidance)
        yield objective, _Predicted(latents, noise, timesteps, output)
