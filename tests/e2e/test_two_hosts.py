"""The same checkpoint computes the same numbers in the webui and headless, through the same ports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.e2e.server import Webui

pytest.importorskip("diffusers")
sys.path.insert(0, str(Path(__file__).parent / "probe_extension"))
from pivotal_probe.numbers import numbers_of

TEXT = "a large red star, probeword, left"


def compare_hosts(webui: Webui) -> dict[str, Any]:
    """Text encoding, noise prediction, latents, schedule and LoRA keys of the webui's checkpoint, both ways."""
    from lib_pivotal.host.diffusers.model import load_model

    theirs = webui.post("/pivotal-test/numbers", {"text": TEXT})
    model = load_model(Path(theirs["file"]), device="cpu")
    assert model.family == theirs["family"]
    assert model.is_v_prediction == theirs["v"]
    for name, value in numbers_of(model, TEXT).items():
        other = torch.tensor(theirs[name])
        assert other.shape == value.shape, name
        assert torch.allclose(value, other, rtol=1e-4, atol=1e-5 * max(1.0, float(other.abs().max()))), name
    assert {target.key for target in model.lora_targets()} == set(theirs["keys"])
    return theirs


def test_both_hosts_compute_the_same(webui: Webui) -> None:
    assert compare_hosts(webui)["family"] == "sd1"
