"""The part "Data set" in a browser: 500 images in pages, a filter, an edit and its undo."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from PIL import Image
from playwright.sync_api import Page, expect

from lib_pivotal.core.config.schema import field_info

pytestmark = pytest.mark.long

BLOCKS = {name: info["block"] for name, info in field_info().items()}
WAIT_MS = 60_000
COUNT = 500


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Many small images; every hundredth has no caption."""
    folder = Path(tempfile.mkdtemp(prefix="many-"))
    for number in range(COUNT):
        image = Image.new("RGB", (96, 64), (number % 256, number // 2, 90))
        image.putpixel((number % 96, number // 96), (255, 255, 255))
        image.save(folder / f"{number:03}.png")
        if number % 100:
            side = "left" if number % 2 else "right"
            (folder / f"{number:03}.txt").write_text(f"zog, red hair, {side}, number {number}", encoding="utf-8")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def page(tab, folder: Path) -> Page:
    """The part with the images of the folder."""
    page = tab.page
    tab.fill({"concepts": [{"name": "zog"}], "data_folder": str(folder), "resolution": 64}, BLOCKS)
    tab.go_to("Data set")
    page.click("#pivotal_browser_look")
    expect(page.locator(".pivotal-page").first).to_contain_text(f"{COUNT} of {COUNT} images", timeout=WAIT_MS)
    return page


def cards(page: Page):
    return page.locator("#pivotal_browser_cards .pivotal-image")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.txt")}


def test_pages_filters_edits_and_undo(page, folder):
    before = contents(folder)
    expect(cards(page)).to_have_count(60)
    for number in (2, 3):
        page.locator(".pivotal-pager").first.get_by_role("button", name="Next page").click()
        expect(page.locator(".pivotal-page").first).to_contain_text(f"Page {number} of 9", timeout=WAIT_MS)
    # The keyboard goes on from the page that was turned to.
    expect(page.locator(".pivotal-page").first).to_be_focused(timeout=WAIT_MS)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".pivotal-page").first).to_contain_text("Page 4 of 9", timeout=WAIT_MS)
    image = cards(page).first.locator("img").first
    assert image.evaluate("(image) => image.naturalWidth") == 96
    page.locator("#pivotal_browser_tags").get_by_role("button", name="left").click()
    expect(page.locator(".pivotal-page").first).to_contain_text("Page 1 of 5: 250 of 500", timeout=WAIT_MS)
    page.get_by_text("Edit the captions of all images", exact=False).click()
    page.fill("#pivotal_browser_edit_tags textarea, #pivotal_browser_edit_tags input", "tall")
    page.click("#pivotal_browser_preview")
    expect(page.locator("#pivotal_browser_plan").first).to_contain_text("Files that would change: 250", timeout=WAIT_MS)
    assert contents(folder) == before
    page.click("#pivotal_browser_apply")
    expect(page.locator("#pivotal_browser_notice").first).to_contain_text("Files changed: 250", timeout=WAIT_MS)
    assert (folder / "001.txt").read_bytes() == b"tall, zog, red hair, left, number 1"
    page.get_by_text("Undo edits", exact=True).click()
    page.locator("#pivotal_browser_history button").first.click()
    expect(page.locator("#pivotal_browser_notice").first).to_contain_text("restored: 250", timeout=WAIT_MS)
    assert contents(folder) == before


def test_an_image_opens_and_its_caption_is_saved(page, folder):
    cards(page).nth(7).click()
    caption = page.locator("#pivotal_browser_caption textarea")
    expect(caption).to_have_value("zog, red hair, left, number 7", timeout=WAIT_MS)
    expect(page.locator("#pivotal_browser_details [tabindex]")).to_be_focused(timeout=WAIT_MS)
    caption.fill("zog, by hand")
    page.click("#pivotal_browser_save")
    expect(page.locator("#pivotal_browser_notice").first).to_contain_text(
        "Saved the caption of 007.png", timeout=WAIT_MS
    )
    assert (folder / "007.txt").read_text() == "zog, by hand"
    page.click("#pivotal_browser_close")
    expect(page.locator("#pivotal_browser_caption").first).to_be_hidden(timeout=WAIT_MS)


def test_ticked_core_tags_reach_the_settings(page, tab):
    page.locator("#pivotal_browser_tags_part").get_by_text("Core tags", exact=True).click()
    page.click("#pivotal_browser_find_tags")
    box = page.get_by_label("Use red hair as a core tag of zog", exact=True)
    expect(box).to_be_checked(timeout=WAIT_MS)
    expect(page.locator("#pivotal_browser_core_tags").first).to_contain_text("zog, left, number", timeout=WAIT_MS)
    box.uncheck()
    page.click("#pivotal_browser_update_tags")
    expect(page.locator("#pivotal_browser_core_tags").first).not_to_contain_text("zog, left", timeout=WAIT_MS)
    expect(box).not_to_be_checked()
    box.check()
    page.click("#pivotal_browser_use_tags")
    expect(page.locator("#pivotal_browser_notice").first).to_contain_text("in the settings", timeout=WAIT_MS)
    page.click("#pivotal_browser_find_tags")
    expect(box).to_be_checked(timeout=WAIT_MS)
