"""What the webui's model computes from fixed inputs, for comparison with the other host."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.pivot.prompt import TextPlacer
from lib_pivotal.core.ports import PictureSize
from lib_pivotal.host.detect import current_host


def numbers(text: str) -> dict[str, Any]:
    """Text encoding, noise prediction and latents, as nested lists, and the checkpoint's file."""
    from modules import shared

    host, reason = current_host()
    assert host is not None, reason
    with host.exclusive("task(pivotal-probe)"), host.borrow(TrainConfig(), Control()) as lent, torch.no_grad():
        model = lent.model
        encoder = model.text_encoders[0]
        generator = torch.Generator().manual_seed(21)
        noisy = torch.randn(2, 4, 8, 8, generator=generator)
        pixels = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
        vectors = torch.randn(2, encoder.width, generator=generator) * 0.2
        placed = TextPlacer(encoder, {"probeword": (0, 2)}).place(text)
        index = torch.tensor([placed.rows, placed.columns, placed.vectors], dtype=torch.int64)
        encoded = encoder.encode(placed.ids, index[0], index[1], vectors[index[2]])
        condition = model.condition([encoded], len(placed.ids), [PictureSize((64, 64), (0, 0), (64, 64))], [False])
        prediction = model.predict(noisy, torch.tensor([30, 700]), condition.expand(2, -1, -1))
        mean, deviation = model.codec.encode(pixels)
        return {
            "file": shared.sd_model.sd_checkpoint_info.filename,
            "hidden": encoded.hidden.tolist(),
            "prediction": prediction.tolist(),
            "mean": mean.tolist(),
            "deviation": deviation.tolist(),
            "schedule": model.alphas_cumprod.tolist(),
            "keys": [target.key for target in model.lora_targets()],
        }


CHECKS = (numbers,)
