"""Slow answers of the server, under both versions of Gradio: the page ends up with those to the last questions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from lib_pivotal.core.config.presets import find_preset
from lib_pivotal.core.config.schema import field_info
from tests.browser.conftest import opened_bare_tab
from tests.browser.tab_page import TabPage
from tests.ui.fake_host import good_config, write_images

BLOCKS = {name: info["block"] for name, info in field_info().items()}
_SLOW_MS = 1500
_SCRIPT = """
    window.pivotalTestDelay = 0;
    const ownFetch = window.fetch;
    window.fetch = async (...arguments_) => {
        const answer = await ownFetch(...arguments_);
        await new Promise((resolve) => setTimeout(resolve, window.pivotalTestDelay));
        return answer;
    };
"""


@pytest.fixture
def slow_tab(bare_server, browser) -> Iterator[TabPage]:
    """The tab in a page of its own, to which all answers come late."""
    with opened_bare_tab(bare_server[0], browser, _SCRIPT) as tab:
        tab.page.evaluate(f"window.pivotalTestDelay = {_SLOW_MS}")
        yield tab


def test_a_choice_that_is_made_before_the_answer_to_the_first_is_shown(slow_tab):
    for name in ("style-sd1", "cast-sd1"):
        slow_tab.choose("run_preset", find_preset(name).title)
    slow_tab.expect_notice(find_preset("cast-sd1").why)
    expected = find_preset("cast-sd1").settings
    for name in ("lora_start", "name_only"):
        field = slow_tab.page.locator(f"#pivotal_{BLOCKS[name]}_{name}").locator("input, textarea").first
        expect(field).to_have_value(str(expected[name]))


def test_the_length_is_that_of_the_last_settings(slow_tab, tmp_path):
    folder = write_images(tmp_path / "images")
    length = slow_tab.page.locator("#pivotal_length_view").first
    concepts = [{"name": concept.name} for concept in good_config(folder).concepts]
    slow_tab.fill({"concepts": concepts, "data_folder": folder, "resolution": 64, "steps": 11}, BLOCKS)
    # Its question is on its way.
    slow_tab.page.wait_for_timeout(1000)
    slow_tab.fill_fields({"steps": 22}, BLOCKS)
    expect(length).to_contain_text("22 steps")


def test_runs_that_the_queue_starts_are_followed_by_the_page(slow_tab, tmp_path):
    slow_tab.page.evaluate("window.pivotalTestDelay = 0")
    folder = write_images(tmp_path / "images")
    concepts = [{"name": concept.name} for concept in good_config(folder).concepts]
    for name in ("queue-first", "queue-second"):
        settings = {"data_folder": folder, "resolution": 64, "steps": 60, "output_name": name}
        slow_tab.fill({"concepts": concepts, **settings}, BLOCKS)
        slow_tab.press("run_queue_add")
        slow_tab.expect_notice(f"Added to the queue as {name}")
    slow_tab.go_to("Runs")
    slow_tab.press("queue_start")
    slow_tab.go_to("Train a bundle")
    words = slow_tab.page.locator("#pivotal_result_words").locator("textarea, input")
    expect(words).to_have_value("<lora:queue-second:1> zog", timeout=20_000)


def test_the_page_goes_on_asking_between_two_runs_of_the_queue(slow_tab):
    slow_tab.page.evaluate(
        """() => {
            window.asked = 0;
            document.querySelector("#pivotal_run_refresh").addEventListener("click", () => window.asked++);
            pivotal.update(JSON.stringify({state: "done", is_active: false, task_id: null, is_queue_on: true}));
        }"""
    )
    slow_tab.page.wait_for_function("window.asked > 0", timeout=10_000)
