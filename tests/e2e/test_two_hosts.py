"""The same checkpoint computes the same numbers in the webui and headless, through the same ports."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from server import Webui

from lib_pivotal.core.pivot.prompt import TextPlacer
from lib_pivotal.core.ports import PictureSize

pytest.importorskip("diffusers")


def test_both_hosts_compute_the_same(webui: Webui) -> None:
    from lib_pivotal.host.diffusers.model import load_model

    text = "a large red star, probeword, left"
    theirs = webui.post("/pivotal-test/numbers", {"text": text})
    model = load_model(Path(theirs["file"]), device="cpu")
    encoder = model.text_encoders[0]
    generator = torch.Generator().manual_seed(21)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    pixels = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    vectors = torch.randn(2, encoder.width, generator=generator) * 0.2
    placed = TextPlacer(encoder, {"probeword": (0, 2)}).place(text)
    assert len(placed.vectors) == 2
    index = torch.tensor([placed.rows, placed.columns, placed.vectors], dtype=torch.int64)
    with torch.no_grad():
        encoded = encoder.encode(placed.ids, index[0], index[1], vectors[index[2]])
        condition = model.condition([encoded], 1, [PictureSize((64, 64), (0, 0), (64, 64))], [False])
        prediction = model.predict(noisy, torch.tensor([30, 700]), condition.expand(2, -1, -1))
        mean, deviation = model.codec.encode(pixels)
    ours = {
        "hidden": encoded.hidden,
        "prediction": prediction,
        "mean": mean,
        "deviation": deviation,
        "schedule": model.alphas_cumprod,
    }
    for name, value in ours.items():
        other = torch.tensor(theirs[name])
        assert other.shape == value.shape, name
        assert torch.allclose(value, other, rtol=1e-4, atol=1e-5 * max(1.0, float(other.abs().max()))), name
    assert sorted(target.key for target in model.lora_targets()) == sorted(theirs["keys"])
