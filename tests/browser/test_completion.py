"""The list of bundled names under a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect

from tests.browser.tab_page import DESKTOP, TabPage
from tests.e2e.bundles import Maker
from tests.e2e.server import Webui

PROMPT = "#txt2img_prompt textarea"
LIST = ".pivotal-completion"
ROWS = f"{LIST}:visible li"
WAIT_MS = 120_000

TAGCOMPLETE = """
window.PARSERS = [];
window.BaseTagParser = class { constructor(trigger) { this.triggerCondition = trigger; } };
window.ResultType = {embedding: 3};
window.tagword = "zog";
window.AutocompleteResult = class { constructor(text, type) { this.text = text; this.type = type; } };
"""
"""The parts of the tagcomplete extension that our script uses."""


@pytest.fixture(scope="module")
def bundle(webui: Webui) -> str:
    checkpoint = next((webui.data / "models" / "Stable-diffusion").glob("*.safetensors"))
    maker = Maker(webui.data, Path(checkpoint).resolve())
    maker.bundle("trio", 1, {"zogling_v1": 11, "zogling_v2": 12, "asuka (eva)": 13, "<b>x</b>": 14})
    webui.post("/sdapi/v1/refresh-loras")
    return "<lora:trio:1>"


@pytest.fixture
def page(tab: TabPage) -> Iterator[Page]:
    """The page of txt2img with an empty prompt."""
    tab.page.locator("#tabs > .tab-nav button").first.click()
    tab.page.locator(PROMPT).wait_for()
    yield tab.page
    tab.page.locator(PROMPT).fill("")


@pytest.fixture(scope="module")
def tagcomplete_page(url: str, browser) -> Iterator[Page]:
    """A page in which that extension seems to be installed."""
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(TAGCOMPLETE)
    page.goto(url)
    page.locator(PROMPT).wait_for()
    page.wait_for_function("typeof opts !== 'undefined' && 'samples_save' in opts && PARSERS.length === 1")
    yield page
    context.close()
    assert errors == []


def _type(page: Page, text: str) -> None:
    page.locator(PROMPT).fill("")
    page.locator(PROMPT).press_sequentially(text)


def test_names_are_offered_and_inserted(page: Page, bundle: str) -> None:
    _type(page, f"{bundle} a zog")
    expect(page.locator(ROWS)).to_have_count(2)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(page.locator(PROMPT)).to_have_value(f"{bundle} a zogling_v2")
    expect(page.locator(LIST)).to_be_hidden()
    page.locator(PROMPT).press_sequentially(", ASU")
    page.locator(ROWS).click()
    expect(page.locator(PROMPT)).to_have_value(f"{bundle} a zogling_v2, asuka \\(eva\\)")


def test_names_are_text_and_never_markup(page: Page, bundle: str) -> None:
    _type(page, f"{bundle} <b>")
    expect(page.locator(ROWS)).to_contain_text("<b>x</b>")
    assert page.locator(f"{LIST} b").count() == 0


def test_no_list_without_the_lora_and_none_after_escape(page: Page, bundle: str) -> None:
    _type(page, f"{bundle} zog")
    expect(page.locator(ROWS)).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator(LIST)).to_be_hidden()
    for text in ("a zog", "<lora:trio:1:ti=off> zog", "<lora:nothing:1> zog", f"{bundle} dogs"):
        _type(page, text)
        page.wait_for_timeout(300)
        assert page.locator(ROWS).count() == 0, text


def test_the_list_closes_when_the_caret_moves(page: Page, bundle: str) -> None:
    """It would insert its names into the middle of other words."""
    text = f"a hat {bundle} zog"
    for key in ("ArrowLeft", "Home", "Shift+ArrowLeft"):
        _type(page, text)
        expect(page.locator(ROWS)).to_have_count(2)
        page.keyboard.press(key)
        expect(page.locator(LIST)).to_be_hidden()
    _type(page, text)
    expect(page.locator(ROWS)).to_have_count(2)
    # A browser may report the move late.
    page.evaluate(
        "window.late = new AbortController(); document.addEventListener('selectionchange',"
        " (event) => event.stopImmediatePropagation(), {capture: true, signal: window.late.signal})"
    )
    page.locator(PROMPT).evaluate("(field) => field.setSelectionRange(1, 1)")
    page.keyboard.press("Tab")
    page.evaluate("window.late.abort()")
    expect(page.locator(PROMPT)).to_have_value(text)


def test_the_tag_may_rename(page: Page, bundle: str) -> None:
    _type(page, "<lora:trio:1:ti=zogling_v1/hero> her")
    expect(page.locator(ROWS)).to_contain_text("hero")


def test_tagcomplete_gets_the_names_instead(tagcomplete_page: Page, bundle: str) -> None:
    page = tagcomplete_page
    _type(page, f"{bundle} a zog")
    page.wait_for_function("PARSERS[0].triggerCondition()")
    assert page.evaluate("PARSERS[0].parse().map((result) => result.text)") == ["zogling_v1", "zogling_v2"]
    assert page.locator(LIST).count() == 0


def test_tagcomplete_gets_only_what_its_word_is_the_beginning_of(tagcomplete_page: Page, bundle: str) -> None:
    page = tagcomplete_page
    texts = "PARSERS[0].parse().map((result) => result.text)"
    _type(page, f"{bundle} asu")
    page.evaluate("tagword = 'asu'")
    page.wait_for_function("PARSERS[0].triggerCondition()")
    assert page.evaluate(texts) == ["asuka \\(eva\\)"]
    # It starts a new word after a space, so it would insert the whole name after the first half.
    page.locator(PROMPT).press_sequentially("ka \\(ev")
    page.evaluate("tagword = '(ev'")
    page.wait_for_timeout(300)
    assert page.evaluate(texts) == []
    assert not page.evaluate("PARSERS[0].triggerCondition()")
