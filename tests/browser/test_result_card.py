"""The result card under both versions of Gradio: what it shows belongs to its own bundle."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from lib_pivotal.core.config.schema import field_info
from tests.ui.fake_host import good_config, write_images

_ALWAYS_VISIBLE = (
    "(button) => { Object.defineProperty(button, 'offsetParent', {get: () => document.body, configurable: true}); }"
)
"""What the page's script sees if the card disappears and comes back between two looks at it."""
BLOCKS = {name: info["block"] for name, info in field_info().items()}


def test_a_comparison_goes_when_the_next_bundle_comes(bare_tab, tmp_path):
    folder = write_images(tmp_path / "images")
    concepts = [{"name": concept.name} for concept in good_config(folder).concepts]
    view = bare_tab.page.locator("#pivotal_compare_result_view").first
    common = {"concepts": concepts, "data_folder": folder, "resolution": 64, "steps": 2}
    for name in ("card-first", "card-second"):
        bare_tab.fill({**common, "output_name": name}, BLOCKS)
        bare_tab.press("run_train")
        bare_tab.expect_status("Finished")
        words = bare_tab.page.locator("#pivotal_result_words").locator("textarea, input")
        expect(words).to_have_value(f"<lora:{name}:1> zog")
        expect(view.locator(".pivotal-box")).to_have_count(0)
        bare_tab.press("compare_result_start")
        expect(view).to_contain_text(f"{name}: parts")
        bare_tab.page.locator("#pivotal_compare_result_start").first.evaluate(_ALWAYS_VISIBLE)
