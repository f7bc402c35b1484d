"""The comparison of a bundle's parts under a real Gradio: on the result card and in the bundle tools."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from lib_pivotal.app import comparison as comparison_module
from lib_pivotal.app.comparison import comparison_for
from lib_pivotal.ui.blocks.comparison import comparison_id
from lib_pivotal.ui.ids import element_id
from tests.ui.fake_host import good_config
from tests.ui.test_tab import wait_until


@pytest.fixture(autouse=True)
def described(monkeypatch, host) -> dict:
    found = {
        "lora": {"layers": 4, "parts": {"unet": 2, "text encoder": 2}},
        "embeddings": {"zog": {}, "<mib>": {}},
        "family": "SD1",
        "metadata": {},
    }
    monkeypatch.setattr(comparison_module, "_describe", lambda path: found)
    (host.lora_folder() / "y.safetensors").write_bytes(b"bundle")
    return found


def part(name: str) -> str:
    return comparison_id("bundles", name)


def finish(page, session, place: str = "bundles") -> dict:
    comparison_for(session).join(5)
    return page.press(comparison_id(place, "refresh"))


def test_one_click_on_a_selected_bundle(page, session, host):
    page.values[element_id("bundles", "bundle")] = "y"
    changed = page.press(part("start"))
    answer = json.loads(changed[part("page")])
    assert answer["is_active"] in (True, False) and answer["task_id"].startswith("task(")
    changed = finish(page, session)
    assert changed[part("start")]["interactive"] is True
    assert changed[part("stop")]["interactive"] is False
    assert changed[part("gallery")]["visible"] is True
    assert len(changed[part("gallery")]["value"]) == 1
    assert "y: parts × prompts" in page.values[part("view")]
    assert "compare-y.png" in page.values[part("view")]
    assert [prompt for _, prompt in host.compare.made[-2:]] == ["zog", "<mib>"]
    assert part("gallery") not in page.press(part("refresh")), "the image is sent again for nothing"


def test_every_field_reaches_the_comparison(page, session, host):
    page.values[element_id("bundles", "bundle")] = "y"
    values = {"prompts": "zog\n\n a hat ", "checkpoint": host.compare.titles[1], "seed": "12", "steps": "3"}
    page.values.update({part(name): value for name, value in values.items()})
    page.press(part("start"))
    finish(page, session)
    status = comparison_for(session).status()
    assert status["prompts"] == ["zog", "a hat"]
    assert status["checkpoints"] == host.compare.titles
    assert "Seed: 12" in status["cells"][0]["infotext"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seed": "1.5"}, "Seed of the comparison"),
        ({"steps": "500"}, "from 1 to 150"),
        ({"checkpoint": "gone <b>"}, "no checkpoint"),
    ],
)
def test_wrong_values_are_named(page, session, values, words):
    page.values[element_id("bundles", "bundle")] = "y"
    page.values.update({part(name): value for name, value in values.items()})
    page.press(part("start"))
    assert words in page.values[part("view")]
    assert comparison_for(session).status()["state"] == "idle"


def test_no_file_selected(page):
    page.press(part("start"))
    assert "No file is selected" in page.values[part("view")]


def test_the_result_card_compares_its_run_and_not_a_later_one(page, session, engine, host, images):
    start = comparison_id("result", "start")
    session.start(good_config(images, steps=2))
    page.press(start)
    assert "Training is running" in page.values[comparison_id("result", "view")]
    engine.allow(2)
    session.join(5)
    page.press(element_id("run", "refresh"))
    # The page still shows the card when somebody else has started another run.
    session.start(good_config(images, steps=2, output_name="later"))
    wait_until(lambda: session.status()["state"] == "training")
    page.press(start)
    wait_until(lambda: comparison_for(session).status()["state"] == "queued")
    session.stop(discard=True)
    finish(page, session, "result")
    assert comparison_for(session).status()["bundle"] == "zog-bundle"
    (host.lora_folder() / "zog-bundle.safetensors").unlink()
    engine.allow(2)
    session.start(good_config(images, steps=2))
    session.join(5)
    page.press(element_id("run", "refresh"))
    page.press(start)
    changed = finish(page, session, "result")
    path = Path(session.status()["run_folder"]) / "compare-000002.png"
    assert str(path) in page.values[comparison_id("result", "view")]
    assert changed[comparison_id("result", "gallery")]["visible"] is True
    assert host.compare.titles[1] in str(changed[comparison_id("result", "checkpoint")]["choices"])


def test_it_can_be_stopped_and_a_second_page_sees_it(page, session, host):
    host.compare.gate = threading.Semaphore(2)
    page.values[element_id("bundles", "bundle")] = "y"
    page.press(part("start"))
    wait_until(lambda: comparison_for(session).status()["done"] == 2)
    changed = page.press(part("refresh"))
    assert changed[part("start")]["interactive"] is False
    assert "Image 2 of 10" in page.values[part("view")]
    page.press(part("start"))
    assert "already" in page.values[part("view")]
    page.press(part("stop"))
    finish(page, session)
    assert "stopped" in page.values[part("view")]
    assert "No comparison" in (page.press(part("stop")) and page.values[part("view")])


def test_the_result_card_shows_nothing_of_another_bundle(page, session, host):
    host.compare.aliases["y"] = "its name in prompts"
    page.values[element_id("bundles", "bundle")] = "y"
    page.press(part("start"))
    finish(page, session)
    view, gallery = comparison_id("result", "view"), comparison_id("result", "gallery")
    page.values[element_id("run", "card_bundle")] = "y"
    assert page.press(comparison_id("result", "refresh"))[gallery]["visible"] is True
    assert "its name in prompts: parts" in page.values[view]
    # As after the next run.
    page.values[element_id("run", "card_bundle")] = "later"
    assert page.press(comparison_id("result", "refresh"))[gallery]["visible"] is False
    assert page.values[view] == ""


def test_events_tell_the_script(page):
    for place in ("result", "bundles"):
        for name in ("start", "stop", "refresh"):
            codes = [item.get("js") for item in page.followers(comparison_id(place, name))]
            assert codes and all(f"pivotalWork.update('compare_{place}'" in code for code in codes)


def test_the_result_card_shows_nothing_of_what_the_file_was_before(page, session, host):
    page.values[element_id("bundles", "bundle")] = page.values[element_id("run", "card_bundle")] = "y"
    page.press(part("start"))
    finish(page, session)
    view, gallery = comparison_id("result", "view"), comparison_id("result", "gallery")
    assert page.press(comparison_id("result", "refresh"))[gallery]["visible"] is True
    # As after a longer run of the same name.
    (host.lora_folder() / "y.safetensors").write_bytes(b"longer bundle")
    assert page.press(comparison_id("result", "refresh"))[gallery]["visible"] is False
    assert page.values[view] == ""


def test_the_image_of_a_comparison_goes_when_the_next_one_begins(page, session, host):
    page.values[element_id("bundles", "bundle")] = "y"
    page.press(part("start"))
    assert finish(page, session)[part("gallery")]["visible"] is True
    host.compare.gate = threading.Semaphore(1)
    page.press(part("start"))
    wait_until(lambda: comparison_for(session).status()["done"] == 1)
    changed = page.press(part("refresh"))
    assert changed[part("gallery")] == {"value": [], "visible": False}
    host.compare.gate.release(20)
    assert finish(page, session)[part("gallery")]["visible"] is True
