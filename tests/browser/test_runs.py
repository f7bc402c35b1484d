"""Past runs, the queue and the length of a run in a browser."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from tests.browser.tab_page import DESKTOP
from tests.browser.test_page import BLOCKS, settings
from tests.e2e.images import draw

pytestmark = pytest.mark.long

WAIT_MS = 60_000


@pytest.fixture(scope="module")
def images() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        yield draw(Path(folder))


@pytest.fixture(scope="module")
def past_run(webui, images) -> str:
    """A finished run of a few steps."""
    body = {**settings(images, "past"), "unet_lr": 2e-4, "embedding_lr": 1.5e-3, "alpha": 2}
    body |= {"steps": 6, "sample_every": 3, "save_every": 3}
    started = webui.post("/pivotal/v1/train", body)
    deadline = time.monotonic() + 300
    while (status := webui.get("/pivotal/v1/status"))["is_active"] and time.monotonic() < deadline:
        time.sleep(0.5)
    assert status["state"] == "done", status
    return Path(started["run_folder"]).name


def go_to_runs(tab) -> None:
    tab.go_to("Runs")
    expect(tab.page.locator("#pivotal_runs_list [data-pivotal-run]").first).to_be_visible(timeout=WAIT_MS)


def test_a_past_run_is_selected_by_a_click_and_its_settings_are_loaded(tab, past_run):
    go_to_runs(tab)
    page = tab.page
    expect(page.locator("#pivotal_runs_list img").first).to_be_visible()
    page.click(f'[data-pivotal-run="{past_run}"]')
    expect(page.locator("#pivotal_runs_view").first).to_contain_text(past_run, timeout=WAIT_MS)
    expect(page.locator("#pivotal_runs_run input")).to_have_value(past_run)
    expect(page.locator("#pivotal_runs_steps_view").first).to_contain_text("3")
    tab.press("runs_use")
    prompt = page.locator("#txt2img_prompt textarea")
    expect(prompt).to_have_value(re.compile("<lora:past:1>"), timeout=WAIT_MS)
    prompt.fill("")
    tab.show()
    go_to_runs(tab)
    tab.press("runs_load")
    expect(page.locator("#pivotal_run_notice").first).to_contain_text(past_run, timeout=WAIT_MS)
    expect(page.locator("#pivotal_output_output_name textarea, #pivotal_output_output_name input")).to_have_value(
        "past"
    )
    expect(page.locator("#pivotal_run_train")).to_be_visible()
    # The fields that a button has changed count as well.
    expect(page.locator("#pivotal_length_view").first).to_contain_text("6 steps", timeout=WAIT_MS)


def test_the_length_follows_what_is_typed(tab, images):
    tab.fill(settings(images, "length", steps=0), BLOCKS)
    expect(tab.page.locator("#pivotal_length_view").first).to_contain_text("steps", timeout=WAIT_MS)
    tab.press("length_half")
    expect(tab.page.locator("#pivotal_run_notice").first).not_to_contain_text("Image folder")
    expect(tab.page.locator("#pivotal_training_steps input")).not_to_have_value("0", timeout=WAIT_MS)


def test_two_queued_runs_end_without_a_hand(tab, webui, images):
    for name in ("queued-a", "queued-b"):
        tab.fill(settings(images, name, steps=2, sample_every=0), BLOCKS)
        tab.press("run_queue_add")
        tab.expect_notice(f"Added to the queue as {name}")
    go_to_runs(tab)
    tab.press("queue_start")
    expect(tab.page.locator("#pivotal_queue_view").first).to_contain_text("in progress", timeout=WAIT_MS)
    # The page follows by itself.
    expect(tab.page.locator("#pivotal_queue_view ol").first).not_to_contain_text("waiting", timeout=5 * WAIT_MS)
    expect(tab.page.locator("#pivotal_queue_view ol").first).not_to_contain_text("in progress", timeout=5 * WAIT_MS)
    expect(tab.page.locator("#pivotal_queue_view").first).to_contain_text("No run is waiting")
    assert [item["state"] for item in webui.get("/pivotal/v1/queue")["items"]] == ["done", "done"]


def test_runs_fit_a_narrow_screen(tab, past_run):
    go_to_runs(tab)
    tab.page.set_viewport_size({"width": 390, "height": 800})
    assert tab.width() <= 390
    tab.page.set_viewport_size(DESKTOP)
