"""The screenshots of the README, made only with ``--shots``: two drawn characters are trained for some minutes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect

from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from tests.browser.tab_page import TabPage

WAIT_MS = 1_200_000
NAMES = tuple(CHARACTERS)[:2]
SIZE = {"width": 1360, "height": 1450}
STEPS = 80


@pytest.fixture
def images(request: pytest.FixtureRequest) -> Iterator[Path]:
    if not request.config.getoption("--shots"):
        pytest.skip("only with --shots")
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        for name in NAMES:
            write_dataset(Path(folder) / name, name)
        yield Path(folder)


def train(webui, folder: Path) -> None:
    """Two characters, with the settings of the demo."""
    body = {
        "concepts": [{"name": name, "init_text": "circle", "vectors": 8, "stop_at": 0.5} for name in NAMES],
        "data_folder": str(folder),
        "resolution": 64,
        "steps": STEPS,
        "batch_size": 4,
        "rank": 8,
        "alpha": 8.0,
        "lora_start": 0.2,
        "sample_every": STEPS // 4,
        "save_every": STEPS // 2,
        "sample_prompts": "\n".join(f"{name}, large, red background" for name in NAMES)
        + f"\n{NAMES[0]}, small, green background",
        "output_name": "two-characters",
        "if_exists": "overwrite",
    }
    webui.post("/pivotal/v1/train", body)
    deadline = time.monotonic() + WAIT_MS / 1000
    while (status := webui.get("/pivotal/v1/status"))["is_active"] and time.monotonic() < deadline:
        time.sleep(1)
    assert status["state"] == "done", status


def show_training(tab: TabPage) -> None:
    tab.page.set_viewport_size(SIZE)
    tab.expect_status("Finished")
    tab.press("run_restore")
    tab.expect_notice("Restored")
    tab.press("run_check")
    tab.expect_notice("Ready to train", NAMES[0])
    expect(tab.page.locator("#pivotal_run_plot svg.pivotal-plot")).to_be_visible()
    tab.page.locator("#pivotal_run_gallery img").nth(8).wait_for()
    tab.page.evaluate("document.activeElement.blur()")
    tab.page.wait_for_timeout(1500)


def open_part(page: Page, title: str) -> None:
    page.locator("#pivotal_tab > .tab-nav button").get_by_text(title, exact=True).click()
    page.wait_for_timeout(1500)


def test_the_screenshots_of_the_readme(images, webui, url, browser, shoot):
    train(webui, images)
    for theme, name in (("dark", "training-dark"), ("light", "training")):
        tab = TabPage(browser.new_context(viewport=SIZE).new_page(), url, theme)
        show_training(tab)
        shoot(tab.page, name)
    page = tab.page
    tab.press("compare_result_start")
    gallery = page.locator("#pivotal_compare_result_gallery")
    expect(gallery.locator("img").first).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#pivotal_compare_result_start")).to_be_enabled(timeout=WAIT_MS)
    page.wait_for_timeout(1500)
    shoot(gallery, "comparison")
    page.set_viewport_size({**SIZE, "height": 900})
    open_part(page, "Data set")
    page.click("#pivotal_browser_look")
    page.locator("#pivotal_browser_cards .pivotal-image").nth(20).wait_for()
    page.wait_for_timeout(1500)
    shoot(page, "dataset")
    open_part(page, "Runs")
    page.locator("[data-pivotal-run*=two-characters]").first.click()
    page.wait_for_timeout(2500)
    shoot(page, "runs")
    open_part(page, "Bundle tools")
    page.locator("#pivotal_bundles_bundle input").first.click()
    page.locator("#pivotal_bundles_bundle ul li", has_text="two-characters").first.click()
    page.wait_for_timeout(2500)
    shoot(page, "bundles")
