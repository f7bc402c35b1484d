"""Training a model that the webui stores in fp8: A1111 can from 1.8 on, and Forge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.images import NAMES, settings
from tests.e2e.runs import assert_same, losses_of, state_of, train
from tests.e2e.server import Webui


def test_a_run_changes_no_weight_and_no_pixel_and_learns_what_is_learned_without(
    webui: Webui, store: Callable[[bool], None], data: Path
) -> None:
    store(True)
    image, before = webui.pixels("a red circle"), state_of(webui)
    assert "torch.float8_e4m3fn" in before["dtypes"]
    status = train(webui, settings(data, "e2e_fp8", steps=3, sample_every=3))
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image
    assert webui.pixels(f"{NAMES[0]} <lora:e2e_fp8:1>") != webui.pixels(NAMES[0])
    store(False)
    plain = train(webui, settings(data, "e2e_no_fp8", steps=3, sample_every=0, precision="bf16"))
    assert losses_of(status) == pytest.approx(losses_of(plain), rel=0.1)
