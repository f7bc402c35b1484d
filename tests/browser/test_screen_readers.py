"""Every part of the tab has labels for screen readers and readable colors, in both themes: axe-core finds nothing serious."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python", reason="it brings axe-core")

from playwright.sync_api import Page, expect

from tests.browser.tab_page import TabPage
from tests.browser.test_page import BLOCKS, settings
from tests.e2e.images import draw

WAIT_MS = 60_000
AXE = files("axe_playwright_python") / "axe.min.js"
FIND = """async ([place, options]) => {
    const found = await axe.run(place, options);
    return found.violations.filter((rule) => ["serious", "critical"].includes(rule.impact)).map(
        (rule) => `${rule.id}: ` + rule.nodes.map((node) => node.html.slice(0, 150)).join(" "));
}"""


@pytest.fixture
def images() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        yield draw(Path(folder))


def faults(page: Page, place: str = "#tab_pivotal") -> list[str]:
    """What axe-core finds in the part that is shown; in the other theme, only its colors."""
    found: list[str] = page.evaluate(FIND, [place, {"resultTypes": ["violations"]}])
    page.evaluate("document.body.classList.toggle('dark')")
    # Colors change over a moment.
    page.wait_for_timeout(500)
    found += page.evaluate(FIND, [place, {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}])
    page.evaluate("document.body.classList.toggle('dark')")
    return found


def unfold(page: Page) -> None:
    """Open all accordions of the part that is shown."""
    page.evaluate("document.querySelectorAll('#tab_pivotal .label-wrap:not(.open)').forEach((e) => e.click())")


def open_part(page: Page, title: str) -> None:
    page.locator("#pivotal_tab > .tab-nav button").get_by_text(title, exact=True).click()


@pytest.mark.long
def test_no_part_has_a_serious_fault(tab: TabPage, images: Path) -> None:
    page = tab.page
    page.evaluate(AXE.read_text(encoding="utf-8"))
    unfold(page)
    tab.fill(settings(images, "", steps="-3"), BLOCKS)
    tab.press("run_check")
    tab.expect_notice("Steps", "Output name")
    found = {"problems": faults(page, "#pivotal_run_notice")}
    tab.fill(settings(images, "read-aloud"), BLOCKS)
    tab.press("run_check")
    tab.expect_notice("Ready to train")
    page.click(".pivotal-names-open >> nth=0")
    found["train"] = faults(page)
    # The webui has a label of the same name with a tooltip about making images.
    assert "images" in page.locator("#pivotal_training_seed [data-testid=block-info]").get_attribute("title")
    open_part(page, "Data set")
    page.click("#pivotal_browser_look")
    page.locator("#pivotal_browser_cards .pivotal-image").first.click()
    expect(page.locator("#pivotal_browser_caption textarea")).to_be_visible(timeout=WAIT_MS)
    found["data set"] = faults(page)
    open_part(page, "Runs")
    run = page.locator("#pivotal_runs_list [data-pivotal-run]").first
    # The tests before this one have left runs, unless this one runs alone.
    if run.count():
        run.click()
        expect(page.locator("#pivotal_runs_view .pivotal-box")).to_be_visible(timeout=WAIT_MS)
    found["runs"] = faults(page)
    open_part(page, "Bundle tools")
    found["bundles"] = faults(page)
    assert {name: faults for name, faults in found.items() if faults} == {}
