"""The whole way in a real webui: a cast of fifteen and a style are pasted, trained and used."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from PIL import Image
from playwright.sync_api import expect

from benchmarks.cast import CAST, STYLE, write_data
from tests.browser.tab_page import TabPage
from tests.browser.test_page import WAIT_MS, tab
from tests.e2e.runs import wait
from tests.e2e.server import Webui, digest_of

__all__ = ["tab"]

NAMES = [*(character.name for character in CAST), STYLE]
ROWS = [*(f"{character.name}\t{character.words}\t2" for character in CAST), f"{STYLE}\tdark\t2"]
MOST_CLICKS = 6
COUNT_CLICKS = """() => {
    window.realClicks = 0;
    window.countClick = window.countClick || ((event) => { window.realClicks += event.isTrusted; });
    document.addEventListener("click", window.countClick, true);
}"""
QUICK = {"images_resolution": 64, "training_steps": 8, "samples_sample_every": 0}
"""Settings for a small model, which a user need not change."""
HIDDEN = {"lora_text_encoder_rank": 2, "samples_sample_steps": 4}
"""The same within a closed accordion: a LoRA of every kind, and images that are made quickly."""


@pytest.fixture
def cast() -> Iterator[Path]:
    """An image of each character, and one in the style of each of those that are seen in it."""
    with tempfile.TemporaryDirectory(prefix="cast-") as folder:
        yield write_data(Path(folder), counts=(1,) * len(CAST), style_images=1)


@pytest.mark.long
def test_a_cast_of_fifteen_and_a_style(tab: TabPage, webui: Webui, cast: Path):
    usual = {end: field(tab, end).input_value() for end in HIDDEN}
    prepare(tab)
    assert start_with_few_clicks(tab, cast) <= MOST_CLICKS
    run = wait(webui)
    assert run["state"] == "done", run["message"]
    assert [concept["name"] for concept in run["config"]["concepts"]] == NAMES
    tab.expect_status("Finished")
    for name in NAMES:
        expect(tab.page.locator("#pivotal_result_words").locator("textarea, input")).to_have_value(
            contains(name), timeout=WAIT_MS
        )
    every_name_acts(webui)
    look_at_the_parts(tab, webui)
    tab.clear_concepts()
    fill_hidden(tab, usual)
    assert tab.errors == []


def prepare(tab: TabPage) -> None:
    """Go to another tab, with everything empty that is entered afterwards."""
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.clear_concepts()
    for end, value in {**QUICK, "images_data_folder": "", "output_output_name": ""}.items():
        field(tab, end).fill(str(value))
    field(tab, "samples_sample_prompts").fill("\n".join((", ".join(NAMES[:8]), ", ".join(NAMES[8:]))))
    fill_hidden(tab, HIDDEN)
    tab.page.locator("#tabs > .tab-nav button").first.click()


def fill_hidden(tab: TabPage, values: Mapping[str, Any]) -> None:
    """Fill in fields that are not visible."""
    for end, value in values.items():
        field(tab, end).evaluate("(field, value) => { field.value = value; updateInput(field); }", value)


def start_with_few_clicks(tab: TabPage, folder: Path) -> int:
    """From the webui's first tab to a run, as a user with a mouse does it; returns the number of clicks."""
    page = tab.page
    page.evaluate(COUNT_CLICKS)
    tab.go_to("Pivotal Tuning")
    tab.cell(0, "name").click()
    tab.paste("\n".join(ROWS))
    expect(tab.cells("name")).to_have_count(len(NAMES), timeout=WAIT_MS)
    for end, text in (("images_data_folder", str(folder)), ("output_output_name", "cast")):
        field(tab, end).click()
        page.keyboard.insert_text(text)
    tab.press("run_check")
    tab.expect_notice("Ready to train")
    expect(page.locator(".pivotal-names-images").last).to_have_text("5", timeout=WAIT_MS)
    tab.press("run_train")
    tab.expect_notice("started")
    return int(page.evaluate("window.realClicks"))


def field(tab: TabPage, end: str):
    return tab.page.locator(f"#pivotal_{end}").locator("input, textarea").first


def contains(name: str):
    return re.compile(rf"<lora:cast:1> .*\b{name}\b")


def every_name_acts(webui: Webui) -> None:
    """Each name gives another image with the bundle's embeddings than without them, in one call of txt2img."""
    tags = ("<lora:cast:1>", "<lora:cast:1:ti=off>")
    lines = [f"{tag} {name}" for name in NAMES for tag in tags]
    size = {"steps": 2, "width": 64, "height": 64, "cfg_scale": 4, "seed": 5}
    arguments = [False, True, "start", "\n".join(lines)]
    if webui.kind == "forge":
        # Host: scripts/prompts_from_file.py, ``make_combined``, Forge: else there is an image of all images, too.
        arguments.append(False)
    script = {"script_name": "prompts from file or textbox", "script_args": arguments}
    made = webui.post("/sdapi/v1/txt2img", {**size, **script})
    digests = [digest_of(image) for image in made["images"]]
    assert len(digests) == len(lines)
    pairs = list(zip(NAMES, digests[::2], digests[1::2], strict=True))
    assert [name for name, whole, without in pairs if whole == without] == []
    assert len({whole for _, whole, _ in pairs}) == len(NAMES), "two names are the same to the model"
    assert "not found" not in made["info"]


def look_at_the_parts(tab: TabPage, webui: Webui) -> None:
    """One click compares the parts of the bundle: a column for each of them, and a row for each prompt."""
    tab.press("compare_result_start")
    expect(tab.page.locator("#pivotal_compare_result_view").first).to_contain_text("compare-000008", timeout=WAIT_MS)
    image = tab.page.locator("#pivotal_compare_result_gallery img").first
    expect(image).to_be_visible(timeout=WAIT_MS)
    status = webui.get("/pivotal/v1/compare")
    assert (status["state"], len(status["prompts"])) == ("done", 2)
    assert status["parts"] == ["whole", "unet", "text encoder", "embeddings", "nothing"]
    assert len(status["cells"]) == 10
    width, height = Image.open(status["path"]).size
    assert width > 5 * 64 and height > 2 * 64
