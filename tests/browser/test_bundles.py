"""The part "Bundles" in a browser: inspect a file, rename an embedding, see the result and a problem."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")

import torch
from playwright.sync_api import Page, expect
from safetensors.torch import load_file, save_file

WAIT_MS = 20_000
LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture
def page(webui, tab) -> Page:
    vectors = torch.randn(3, 768, generator=torch.Generator().manual_seed(1)) * 0.015
    lora = {f"{LAYER}.lora_down.weight": torch.ones(4, 320), f"{LAYER}.lora_up.weight": torch.ones(320, 4)}
    named = {"bundle_emb.zog_v1.string_to_param.*": vectors, "bundle_emb.nim_v1.string_to_param.*": vectors[:2] * 1.1}
    save_file({**lora, f"{LAYER}.alpha": torch.tensor(2.0), **named}, webui.data / "models/Lora/two.safetensors")
    webui.post("/sdapi/v1/refresh-loras")
    tab.go_to("Bundle tools")
    return tab.page


def test_inspect_rename_and_see_a_problem(page, tab, webui):
    tab.choose("bundles_bundle", "two")
    view = page.locator("#pivotal_bundles_view").first
    expect(view).to_contain_text("zog_v1", timeout=WAIT_MS)
    expect(view).to_contain_text("rank 4, alpha 2; layers: 1")
    page.click("#pivotal_bundles_verify")
    notice = page.locator("#pivotal_bundles_notice").first
    expect(notice).to_contain_text("No problems found", timeout=WAIT_MS)
    page.click("#pivotal_bundles_rename")
    expect(notice).to_contain_text("One name can be changed at a time", timeout=WAIT_MS)
    tab.choose("bundles_names", "zog_v1")
    page.locator("#pivotal_bundles_names_heading").first.click()
    page.fill("#pivotal_bundles_new_name input, #pivotal_bundles_new_name textarea", "hero_v1")
    page.click("#pivotal_bundles_rename")
    expect(notice).to_contain_text("two-2.safetensors", timeout=WAIT_MS)
    expect(view).to_contain_text("hero_v1", timeout=WAIT_MS)
    expect(page.locator("#pivotal_bundles_bundle input").first).to_have_value("two-2")
    written = load_file(webui.data / "models/Lora/two-2.safetensors")
    assert "bundle_emb.hero_v1.string_to_param.*" in written
    assert "bundle_emb.zog_v1.string_to_param.*" in load_file(webui.data / "models/Lora/two.safetensors")
    assert any(item["name"] == "two-2" for item in webui.get("/sdapi/v1/loras"))
