"""While a run goes on and after it: the chart's values, open details, the notification, and the comparison."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from tests.browser.test_page import WAIT_MS, settings, tab
from tests.e2e.images import NAMES, draw
from tests.e2e.runs import wait

pytestmark = pytest.mark.long

__all__ = ["tab"]

VALUES = "#pivotal_run_plot .pivotal-chart-values"
PLOT = "#pivotal_run_plot svg.pivotal-plot.pivotal-plot"


@pytest.fixture(scope="module")
def run(webui):
    """A run that was started over the API."""
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        body = settings(draw(Path(folder)), "watched", steps=30, unet_lr=2e-4, embedding_lr=1.5e-3, alpha=2.0)
        webui.post("/pivotal/v1/train", {**body, "if_exists": "overwrite", "sample_steps": 2})
        yield
        wait(webui)


@pytest.fixture
def trained(shared_tab, request, webui):
    """The tab once that run has ended."""
    shared_tab.page.evaluate("document.addEventListener('pivotal-run-ended', () => { window.runHasEnded = true; })")
    request.getfixturevalue("run")
    shared_tab.page.locator("#tabs > .tab-nav button").first.click()
    shared_tab.show()
    # Until the first answer the page shows an earlier run, whose end is not the one to wait for.
    wait(webui)
    tab = request.getfixturevalue("tab")
    tab.expect_status("Finished")
    expect(tab.page.locator("#pivotal_result_words").locator("textarea, input")).to_have_value(re.compile("watched"))
    return tab


def test_the_chart_shows_values_where_the_mouse_points_and_with_the_arrow_keys(trained):
    page = trained.page
    plot, values = page.locator(PLOT), page.locator(VALUES)
    expect(plot).to_be_visible(timeout=WAIT_MS)
    expect(values).to_contain_text("Point at the chart")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    expect(values).to_contain_text("Loss per step")
    for name in NAMES:
        expect(values).to_contain_text(f"Norm of {name}")
        expect(page.locator(".pivotal-chart-legend")).to_contain_text(f"Norm of {name}")
    expect(page.locator(".pivotal-plot-cursor")).to_have_count(1)
    page.mouse.move(2, 2)
    expect(values).to_contain_text("Point at the chart")
    plot.focus()
    expect(values).to_contain_text("Step 30")
    page.keyboard.press("ArrowLeft")
    expect(values).to_contain_text("Step 29")
    page.keyboard.press("Home")
    expect(values).to_contain_text("Step 1 ")
    # A new drawing keeps what is shown, and the focus.
    page.evaluate("() => { const p = document.querySelector('#pivotal_run_plot .pivotal-chart');"
                  " p.outerHTML = p.outerHTML.replace('Point at', 'Point  at'); }")  # fmt: skip
    expect(values).to_contain_text("Step 1 ")
    assert page.evaluate("document.activeElement.classList.contains('pivotal-plot')")
    assert page.evaluate("window.runHasEnded"), "the page was not notified of the end"
    assert trained.errors == []


def test_the_end_of_a_run_is_announced_as_the_webui_does(tab):
    script = """() => {
        window.seen = [];
        window.Notification = function(title, options) { window.seen.push([title, options.body]); };
        const focus = document.hasFocus;
        document.hasFocus = () => false;
        pivotalWatch.notify();
        document.hasFocus = () => true;
        pivotalWatch.notify();
        document.hasFocus = focus;
        return window.seen;
    }"""
    seen = tab.page.evaluate(script)
    assert len(seen) == 1 and seen[0][0] == "Pivotal Tuning"


def test_one_click_on_the_result_shows_what_each_part_is_worth(trained, webui):
    page = trained.page
    trained.press("compare_result_start")
    expect(page.locator("#pivotal_compare_result_view").first).to_contain_text("compare-000030", timeout=WAIT_MS)
    expect(page.locator("#pivotal_compare_result_gallery img").first).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#pivotal_compare_result_start")).to_be_enabled()
    assert webui.get("/pivotal/v1/compare")["state"] == "done"
    trained.go_to("Bundle tools")
    expect(page.locator("#pivotal_compare_bundles_view").first).to_contain_text("compare-000030", timeout=WAIT_MS)
    assert trained.errors == []
