"""The tab in a browser, controlled by the labels that users see."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, ViewportSize, expect

from lib_pivotal.core.config.schema import concept_field_info

__all__ = ["DESKTOP", "TabPage", "find_chromium"]

_WAIT_MS = 120_000
DESKTOP: ViewportSize = {"width": 1360, "height": 900}
"""Size of the window."""


def find_chromium() -> str | None:
    """``$PIVOTAL_CHROMIUM``, or the system's; None means playwright's own."""
    return os.environ.get("PIVOTAL_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


class TabPage:
    """One page with the tab opened.

    Args:
        page: an empty page.
        url: of the webui.
        theme: light or dark.
    """

    def __init__(self, page: Page, url: str, theme: str = "light") -> None:
        self.page = page
        self.url = f"{url}/?__theme={theme}"
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(f"{error}\n{error.stack}"))
        page.set_default_timeout(_WAIT_MS)
        self.open()

    def open(self) -> None:
        """Load the page and go to the tab; the script has asked for the status when it returns."""
        self.page.goto(self.url)
        self.page.locator("#pivotal_run_train").wait_for(state="attached")
        expect(self.page.locator("#pivotal_run_status .pivotal-box")).to_have_count(1, timeout=_WAIT_MS)
        self.show()

    def show(self) -> None:
        """Go to the tab, and in it to the training."""
        for title in ("Pivotal Tuning", "Train a bundle"):
            self.go_to(title)
        expect(self.page.locator("#pivotal_run_train")).to_be_visible()

    def go_to(self, title: str) -> None:
        """Click on a tab, ours or one of the webui."""
        # Tabs have the role of buttons in Gradio 3, and of tabs in Gradio 4.
        self.page.locator(".tab-nav button").get_by_text(title, exact=True).first.click()

    def fill(self, settings: dict[str, Any], blocks: dict[str, str]) -> None:
        """Type settings, in place of all concepts that are there; ``blocks`` says the block of each basic one."""
        self.clear_concepts()
        for row, concept in enumerate(settings["concepts"]):
            if row >= self.cells("name").count():
                self.page.click("#pivotal_names_add")
            for name, value in concept.items():
                self.cell(row, name).fill(str(value))
        self.fill_fields({name: value for name, value in settings.items() if name != "concepts"}, blocks)

    def fill_fields(self, settings: dict[str, Any], blocks: dict[str, str]) -> None:
        """Type settings other than concepts, where they are not there yet: the page computes after every one."""
        for name, value in settings.items():
            field = self.page.locator(f"#pivotal_{blocks[name]}_{name}").locator("input, textarea")
            if field.input_value() != str(value):
                field.fill(str(value))

    def cell(self, row: int, name: str) -> Locator:
        """A cell of the table of concepts, by its label; rows count from 0."""
        label = concept_field_info()[name]["label"]
        return self.page.get_by_label(f"{label}, row {row + 1}", exact=True)

    def cells(self, name: str) -> Locator:
        """A column of the table of concepts."""
        return self.page.locator(f".pivotal-names [data-field={name}]")

    def choose(self, field: str, text: str) -> None:
        """Pick an entry of a list; ``field`` is the element's id without our prefix."""
        self.page.locator(f"#pivotal_{field} input").first.click()
        self.page.locator(f"#pivotal_{field} ul li", has_text=text).first.click()

    def unfold(self, part: str) -> None:
        """Open a folded part of the tab."""
        folded = self.page.locator(f"#pivotal_{part}_more")
        if not folded.locator("input, textarea").first.is_visible():
            folded.locator(".label-wrap").first.click()
        expect(folded.locator("input, textarea").first).to_be_visible()

    def clear_concepts(self) -> None:
        """Leave one empty row in the table of concepts."""
        self.page.evaluate(
            "() => { const box = document.querySelector('#pivotal_concepts_json').querySelector('input, textarea');"
            " box.value = '[]'; updateInput(box); }"
        )
        expect(self.cells("name")).to_have_count(1, timeout=_WAIT_MS)

    def paste(self, text: str) -> None:
        """Paste into the field that has the focus, with the keyboard."""
        self.page.evaluate("(text) => navigator.clipboard.writeText(text)", text)
        self.page.keyboard.press("Control+v")

    def press(self, name: str) -> None:
        """Press one of our buttons."""
        self.page.click(f"#pivotal_{name}")

    def forgive(self, words: str) -> None:
        """Forget errors of the page's scripts that are not ours."""
        self.errors = [error for error in self.errors if words not in error]

    def expect_notice(self, *words: str) -> None:
        """Wait for the answer to a press."""
        for word in words:
            expect(self.page.locator("#pivotal_run_notice").first).to_contain_text(word, timeout=20_000)

    def expect_status(self, word: str) -> None:
        """Wait for the run's state."""
        expect(self.page.locator("#pivotal_run_status").first).to_contain_text(word, timeout=_WAIT_MS)

    def progress(self) -> Any:
        """The webui's own bar."""
        return self.page.locator("#pivotal_run_progress .progressDiv")

    def width(self) -> int:
        """Width of the scrollable content, in px."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def read_last(self, data: Path) -> dict[str, Any]:
        """The settings that the run was started with."""
        values: dict[str, Any] = json.loads((data / "pivotal-tuning" / "last.json").read_text(encoding="utf-8"))
        return values
