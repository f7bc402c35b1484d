"""Measures the page in a real browser and a real webui: ``python run.py bench page``.

The time to load the page, compared with the webui alone; the time until each button of the tab has its answer; pauses
while 500 images are scrolled; and how far a training run moves what is on the page. Needs a webui
(``$PIVOTAL_WEBUI`` or ``~/stable-diffusion-webui``) and Chromium (``$PIVOTAL_CHROMIUM``, or the one that is installed).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from lib_pivotal.demo.assets import materialize
from tests.browser.tab_page import DESKTOP, TabPage, find_chromium
from tests.e2e.images import CONCEPTS, draw
from tests.e2e.runs import start, wait
from tests.e2e.server import Webui, find_installed, running

IMAGES = 500
_STEPS = 80
MOST_S = 30.0
"""Longer than any answer."""
LOADED = "typeof opts !== 'undefined' && 'samples_save' in opts"
OPEN_ALL = "() => document.querySelectorAll('#pivotal_tab .label-wrap:not(.open)').forEach((label) => label.click())"
CAN_BE_PRESSED = """(buttons) => buttons
    .filter((button) => button.offsetParent && !button.disabled && !button.closest("#pivotal_result_card"))
    .map((button) => button.id)"""
"""The buttons on the result card need a run."""
SCROLL = """async () => {
    const gaps = [];
    let last = performance.now();
    const end = document.documentElement.scrollHeight - innerHeight;
    window.scrollTo(0, 0);
    for (let top = 0; top < end; top += 120) {
        window.scrollTo(0, top);
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        gaps.push(now - last);
        last = now;
    }
    return gaps;
}"""
"""Milliseconds between two frames while the page is scrolled from its top to its end."""
WATCH_SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries())
            window.shifts.push([entry.value, ...entry.sources.map(({node}) => node?.id || node?.className)]);
    }).observe({type: "layout-shift"});
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=int, default=5, help="how often the page is loaded in each webui")
    options = parser.parse_args()
    found = find_installed()
    if found is None:
        sys.exit("No webui was found: set PIVOTAL_WEBUI and PIVOTAL_WEBUI_PYTHON.")
    tree, python = found
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        checkpoint = materialize(folder / "model").a
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        with running(tree, python, folder / "alone", [checkpoint], with_extension=False) as webui:
            alone = [_load(browser, webui.url) for _ in range(options.loads)]
        with running(tree, python, folder / "ours", [checkpoint]) as webui:
            ours = [_load(browser, webui.url) for _ in range(options.loads)]
            _say(f"page loaded: webui alone {statistics.median(alone):.1f} s, with the extension "
                 f"{statistics.median(ours):.1f} s (medians of {options.loads})")  # fmt: skip
            tab = TabPage(browser.new_page(viewport=DESKTOP), webui.url)
            _measure_shifts(tab, webui, draw(folder / "images"))
            _measure_scrolling(tab, _write_images(folder / "many"))
            _measure_buttons(tab)
        browser.close()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _seconds(action: Callable[[], Any]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def _load(browser: Browser, url: str) -> float:
    page = browser.new_page(viewport=DESKTOP)

    def load() -> None:
        page.goto(url)
        page.wait_for_function(LOADED, timeout=120_000)

    seconds = _seconds(load)
    page.close()
    return seconds


def _write_images(folder: Path) -> Path:
    folder.mkdir()
    for number in range(IMAGES):
        image = Image.effect_noise((768, 512), 40).convert("RGB")
        image.save(folder / f"{number:03}.jpg", quality=80)
        (folder / f"{number:03}.txt").write_text(f"zog, red hair, number {number}", encoding="utf-8")
    return folder


def _measure_shifts(tab: TabPage, webui: Webui, images: Path) -> None:
    settings = {"concepts": CONCEPTS, "data_folder": str(images), "resolution": 64, "steps": _STEPS, "sample_every": 10}
    start(webui, {**settings, "sample_steps": 2, "output_name": "watched"})
    tab.page.locator("#tabs > .tab-nav button").first.click()
    tab.show()
    tab.expect_status("Step")
    # The first answer shows the parts that only a run has.
    tab.page.wait_for_timeout(3000)
    tab.page.evaluate(WATCH_SHIFTS)
    watched = _STEPS - webui.get("/pivotal/v1/status")["step"]
    if watched < _STEPS // 2:
        sys.exit(f"Only {watched} of {_STEPS} steps would be watched: use more steps.")
    wait(webui)
    shifts = tab.page.evaluate("window.shifts")
    _say(f"layout shifts during {watched} steps of a run: {len(shifts)}, sum {sum(shift[0] for shift in shifts):.3f}")
    for shift in shifts[:10]:
        _say(f"    {shift}")


def _measure_scrolling(tab: TabPage, images: Path) -> None:
    page = tab.page
    page.locator("#pivotal_images_data_folder").locator("input, textarea").first.fill(str(images))
    page.get_by_role("button", name="Data set", exact=True).click()
    first = _seconds(partial(_look, page))
    gaps: list[float] = []
    turns: list[float] = []
    number = 1
    while True:
        page.wait_for_timeout(500)
        gaps += page.evaluate(SCROLL)
        following = page.locator(".pivotal-pager").first.get_by_role("button", name="Next page")
        if not following.count() or not following.is_enabled():
            break
        number += 1
        turns.append(_seconds(partial(_turn, page, number)))
    _say(f"{IMAGES} images: looked at in {first:.1f} s; a page turned in {statistics.median(turns):.2f} s; scrolling: "
         f"{len(gaps)} frames, median {statistics.median(gaps):.0f} ms, longest {max(gaps):.0f} ms, "
         f"over 100 ms: {sum(gap > 100 for gap in gaps)}")  # fmt: skip


def _look(page: Page) -> None:
    page.click("#pivotal_browser_look")
    expect(page.locator(".pivotal-page").first).to_contain_text(f"of {IMAGES} images", timeout=120_000)


def _turn(page: Page, number: int) -> None:
    page.locator(".pivotal-pager").first.get_by_role("button", name="Next page").click()
    expect(page.locator(".pivotal-page").first).to_contain_text(f"Page {number} of")


def _measure_buttons(tab: TabPage) -> None:
    """Without a folder and a name nothing long is started."""
    tab.show()
    for end in ("images_data_folder", "output_output_name"):
        tab.page.locator(f"#pivotal_{end}").locator("input, textarea").first.fill("")
    times: dict[str, float] = {}
    for part in ("Train a bundle", "Data set", "Runs", "Bundle tools"):
        tab.page.locator(".tab-nav button").get_by_text(part, exact=True).first.click()
        tab.page.evaluate(OPEN_ALL)
        for name in tab.page.eval_on_selector_all("#pivotal_tab button[id^=pivotal_]", CAN_BE_PRESSED):
            button = tab.page.locator(f"#{name}")
            if button.is_visible() and button.is_enabled():
                times[name] = _seconds(partial(_press, tab.page, name))
    slowest = sorted(times.items(), key=lambda item: -item[1])
    _say(f"{len(times)} buttons answered; median {statistics.median(times.values()):.2f} s; the slowest:")
    for name, seconds in slowest[:8]:
        _say(f"    {name} {seconds:.2f} s")


def _press(page: Page, name: str) -> None:
    if name.startswith("pivotal_names_"):
        # Those of the table need no server.
        page.click(f"#{name}")
        return
    with page.expect_response(lambda answer: "/run/predict" in answer.url, timeout=1000 * MOST_S):
        page.click(f"#{name}")


if __name__ == "__main__":
    main()
