"""Training a model that the webui stores in fp8, which it can from 1.8 on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.images import NAMES, settings
from tests.e2e.runs import assert_same, losses_of, state_of, train
from tests.e2e.server import Webui, find_installed, version_of


@pytest.fixture
def in_eight_bits(webui: Webui) -> Iterator[Webui]:
    """The webui with its model in fp8."""
    if version_of(find_installed()[0]) < (1, 8):
        pytest.skip("this webui has no fp8")
    webui.post("/sdapi/v1/options", {"fp8_storage": "Enable"})
    yield webui
    webui.post("/sdapi/v1/options", {"fp8_storage": "Disable"})


def test_a_run_changes_no_weight_and_no_pixel_and_learns_what_bf16_learns(in_eight_bits: Webui, data: Path) -> None:
    webui = in_eight_bits
    image, before = webui.pixels("a red circle"), state_of(webui)
    assert "torch.float8_e4m3fn" in before["dtypes"]
    status = train(webui, settings(data, "e2e_fp8", steps=3, sample_every=3))
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image
    assert webui.pixels(f"{NAMES[0]} <lora:e2e_fp8:1>") != webui.pixels(NAMES[0])
    webui.post("/sdapi/v1/options", {"fp8_storage": "Disable"})
    plain = train(webui, settings(data, "e2e_no_fp8", steps=3, sample_every=0, precision="bf16"))
    assert losses_of(status) == pytest.approx(losses_of(plain), rel=0.1)
