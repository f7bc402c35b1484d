"""The tab in a browser: fill in, check, train, watch, reload, stop, use the result."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from lib_pivotal.core.config.schema import field_info
from tests.browser.tab_page import TabPage
from tests.e2e.images import CONCEPTS, NAMES, draw

BLOCKS = {name: info["block"] for name, info in field_info().items()}
WAIT_MS = 120_000


@pytest.fixture
def images() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        yield draw(Path(folder))


@pytest.fixture
def tab(webui, tab) -> Iterator[TabPage]:
    """The tab; a run that is active afterwards is discarded."""
    yield tab
    webui.try_post("/pivotal/v1/stop", {"discard": True})
    deadline = time.monotonic() + 60
    while webui.get("/pivotal/v1/status")["is_active"] and time.monotonic() < deadline:
        time.sleep(0.2)


def settings(folder: Path, output_name: str, **changes) -> dict:
    return {
        "concepts": CONCEPTS,
        "data_folder": str(folder),
        "resolution": 64,
        "steps": 12,
        "unet_lr": "1e-3",
        "embedding_lr": "5e-3",
        "rank": 4,
        "alpha": "2",
        "sample_every": 6,
        "sample_prompts": "\n".join(f"{name}, {color} background" for name, color in zip(NAMES, ("red", "blue"))),
        "output_name": output_name,
        **changes,
    }


def test_from_filling_to_the_image(tab, webui, images):
    page = tab.page
    tab.fill(settings(images / "nowhere", "", steps="-3"), BLOCKS)
    tab.press("run_train")
    tab.expect_notice("Image folder", "Output name", "Steps")
    given = settings(images, "two-shapes")
    tab.fill_fields({name: given[name] for name in ("data_folder", "output_name", "steps")}, BLOCKS)
    assert tab.errors == []
    tab.press("run_check")
    tab.expect_notice("Ready to train")
    assert tab.errors == []
    tab.press("run_train")
    tab.expect_notice("started")
    expect(page.locator("#pivotal_run_train")).to_be_disabled()
    tab.expect_status("Step")
    expect(tab.progress()).to_be_visible()
    expect(page.locator("#pivotal_run_gallery img").first).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#pivotal_run_plot svg.pivotal-plot")).to_be_visible(timeout=WAIT_MS)
    tab.expect_status("Finished")
    expect(page.locator("#pivotal_result_card")).to_be_visible()
    expect(page.locator("#pivotal_run_train")).to_be_enabled()
    expect(tab.progress()).to_have_count(0, timeout=20_000)
    expect(page.locator("#pivotal_run_gallery .grid-container img")).to_have_count(6, timeout=20_000)
    last = tab.read_last(webui.data)
    assert [concept["name"] for concept in last["concepts"]] == list(NAMES)
    assert (last["unet_lr"], last["rank"], last["alpha"]) == (1e-3, 4, 2.0)
    assert tab.errors == []
    use_the_result(tab, webui)


def use_the_result(tab, webui) -> None:
    """The words go to txt2img, and a generation with them finds the bundle."""
    page = tab.page
    words = f"<lora:two-shapes:1> {', '.join(NAMES)}"
    expect(page.locator("#pivotal_result_words").locator("textarea, input")).to_have_value(words)
    tab.press("result_send")
    prompt = page.locator("#txt2img_prompt textarea")
    expect(prompt).to_be_visible()
    expect(prompt).to_have_value(words)
    assert tab.errors == []
    generate(page)
    expect(page.locator("#txt2img_gallery img").first).to_be_visible(timeout=WAIT_MS)
    expect(infotext(page)).to_contain_text("two-shapes", timeout=WAIT_MS)
    # The webui lists networks that it could not find; it found ours.
    expect(page.locator("#html_log_txt2img").first).not_to_contain_text("not found")
    # Gradio 3.41 stumbles over the webui's own generation, with or without us.
    tab.forgive("reading 'props'")
    assert (webui.data / "models" / "Lora" / "two-shapes.safetensors").exists()


def generate(page) -> None:
    """Press the webui's own button for a small image."""
    for name in ("width", "height"):
        page.locator(f"#txt2img_{name} input[type=number]").fill("64")
    page.locator("#txt2img_steps input[type=number]").fill("6")
    page.locator("#txt2img_generate").click()


def infotext(page):
    """The settings below the last image."""
    return page.locator("#html_info_txt2img").first


def test_an_image_asked_for_during_a_run_is_made_after_it(tab, webui, images):
    page, prompt = tab.page, "a lonely lighthouse"
    webui.post("/pivotal/v1/train", settings(images, "busy", steps=2000, unet_lr=2e-4, embedding_lr=1.5e-3, alpha=2.0))
    while webui.get("/pivotal/v1/status")["step"] < 1:
        time.sleep(0.2)
    page.locator("#tabs > .tab-nav button").first.click()
    page.locator("#txt2img_prompt textarea").fill(prompt)
    generate(page)
    step = webui.get("/pivotal/v1/status")["step"]
    while webui.get("/pivotal/v1/status")["step"] < step + 3:
        time.sleep(0.2)
    expect(infotext(page)).not_to_contain_text(prompt)
    webui.post("/pivotal/v1/stop")
    expect(infotext(page)).to_contain_text(prompt, timeout=WAIT_MS)
    status = webui.get("/pivotal/v1/status")
    assert status["state"] == "stopped"
    assert status["step"] >= step + 3
    # See above.
    tab.forgive("reading 'props'")
    tab.show()


def test_a_reload_and_escape_lose_nothing_and_stop_keeps(tab, webui, images):
    page = tab.page
    tab.fill(settings(images, "stopped", steps="2000"), BLOCKS)
    tab.press("run_train")
    # Until then the page shows the previous run.
    tab.expect_notice("started")
    tab.expect_status("Step")
    expect(page.locator("#pivotal_run_plot svg.pivotal-plot")).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("Escape")
    # The webui's own handler fails in every tab that has no interrupt button.
    tab.forgive("reading 'style'")
    # A run that is stopped before its first step keeps nothing.
    while (before := webui.get("/pivotal/v1/status"))["step"] < 1:
        time.sleep(0.2)
    tab.open()
    tab.expect_status("Step")
    expect(tab.progress()).to_be_visible()
    expect(page.locator("#pivotal_run_gallery img").first).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#pivotal_run_stop")).to_be_enabled()
    expect(page.locator("#pivotal_run_train")).to_be_disabled()
    expect(tab.cell(1, "name")).to_have_value(NAMES[1])
    assert page.locator("#pivotal_output_output_name input").input_value() == "stopped"
    after = webui.get("/pivotal/v1/status")
    assert after["task_id"] == before["task_id"]
    assert after["is_active"]
    tab.press("run_stop")
    tab.expect_notice("progress is kept")
    tab.expect_status("Stopped")
    expect(page.locator("#pivotal_result_words").locator("textarea, input")).to_have_value(
        re.compile("lora:stopped:1"), timeout=WAIT_MS
    )
    assert (webui.data / "models" / "Lora" / "stopped.safetensors").exists()
    expect(page.locator("#pivotal_run_train")).to_be_enabled()


def test_a_run_started_elsewhere_is_shown_and_can_be_discarded(tab, webui, images):
    page = tab.page
    body = settings(images, "elsewhere", steps=2000, unet_lr=2e-4, embedding_lr=1.5e-3, alpha=2.0)
    # The webui of the e2e suite has logins; this one has none, and still no other site can start a run.
    assert webui.try_post("/pivotal/v1/train", body, headers={"Origin": "https://evil.example.com"})[0] == 403
    assert webui.post("/pivotal/v1/train", body)["task_id"]
    page.locator("#tabs > .tab-nav button").first.click()
    tab.go_to("Pivotal Tuning")
    tab.expect_status("Step")
    expect(page.locator("#pivotal_run_discard")).to_be_enabled()
    tab.press("run_discard")
    tab.expect_status("Discarded")
    assert not (webui.data / "models" / "Lora" / "elsewhere.safetensors").exists()
    expect(page.locator("#pivotal_result_card")).to_be_hidden()


@pytest.fixture(params=["light", "dark"])
def theme(request, tab) -> Iterator[None]:
    """The page in a theme; loading it in the dark one would take the browser ten seconds of computing."""
    tab.page.evaluate("(is_dark) => document.body.classList.toggle('dark', is_dark)", request.param == "dark")
    yield
    tab.page.evaluate("document.body.classList.remove('dark')")


@pytest.mark.parametrize("width", [390, 1360])
def test_looks(tab, theme, width):
    page = tab.page
    page.set_viewport_size({"width": width, "height": 900})
    assert tab.width() <= width, "there is something to scroll sideways"
    for name in ("check", "train", "stop"):
        box = page.locator(f"#pivotal_run_{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    text, ground = page.evaluate(
        "() => { const s = getComputedStyle(document.querySelector('#pivotal_run_status .pivotal-box'));"
        " return [s.color, s.backgroundColor]; }"
    )
    assert abs(brightness(text) - brightness(ground)) > 100, (text, ground)


def brightness(color: str) -> float:
    """Mean of red, green and blue, 0 to 255."""
    return sum(float(number) for number in re.findall(r"[\d.]+", color)[:3]) / 3


def test_the_script_survives_invalid_answers(tab):
    tab.page.evaluate("pivotal.update('no json'); pivotal.update('')")
    tab.page.fill("#pivotal_output_output_name input", "")
    tab.press("run_check")
    tab.expect_notice("Output name")
