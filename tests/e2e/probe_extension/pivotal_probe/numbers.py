"""What the webui's model computes from fixed inputs, for comparison with the other host."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.host.detect import current_host

SIZES = [ImageSize((96, 80), (0, 8), (64, 64)), ImageSize((64, 64), (0, 0), (64, 64))]


def probe_embedding(model: Any, generator: torch.Generator, count: int = 2) -> EmbeddingWeights:
    """Fixed vectors for the word ``probeword``."""
    weights = {
        encoder.name: torch.randn(count, encoder.width, generator=generator) * 0.2 for encoder in model.text_encoders
    }
    return EmbeddingWeights({"probeword": (0, count)}, weights)


def numbers_of(model: Any, text: str) -> dict[str, torch.Tensor]:
    """What a model behind our port makes of fixed inputs; the same code runs headless."""
    generator = torch.Generator().manual_seed(21)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    pixels = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    embedding = probe_embedding(model, generator)
    with torch.no_grad(), model.autocast():
        (group,) = TextConditioner(model, embedding).encode([text, text], SIZES)
        prediction = model.predict(noisy, torch.tensor([30, 700]), group.conditioning)
        mean, deviation = model.vae.encode(pixels)
    hidden = group.conditioning[0] if isinstance(group.conditioning, tuple) else group.conditioning
    return {
        "hidden": hidden,
        "prediction": prediction,
        "mean": mean,
        "deviation": deviation,
        "schedule": model.alphas_cumprod,
    }


def numbers(text: str) -> dict[str, Any]:
    """The same from the webui's model, as nested lists, and the checkpoint's file."""
    from modules import shared

    host, reason = current_host()
    assert host is not None, reason
    config = TrainConfig(text_encoder_rank=1)
    with host.exclusive("task(pivotal-probe)"), host.borrow(config, Control()) as borrowed:
        found = {name: value.tolist() for name, value in numbers_of(borrowed.model, text).items()}
        return {
            "file": shared.sd_model.sd_checkpoint_info.filename,
            "keys": [target.key for target in borrowed.model.lora_targets()],
            "family": borrowed.model.family,
            "v": borrowed.model.is_v_prediction,
            **found,
        }


CHECKS = (numbers,)
