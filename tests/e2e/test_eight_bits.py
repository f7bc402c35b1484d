"""Training a model that the webui stores in fp8: A1111 can from 1.8 on, and Forge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.runs import assert_fp8_changes_little
from tests.e2e.server import Webui


def test_a_run_changes_no_weight_and_no_pixel_and_learns_what_is_learned_without(
    webui: Webui, store: Callable[[bool], None], data: Path
) -> None:
    assert_fp8_changes_little(webui, store, data, "fp8", steps=3, sample_every=3)
