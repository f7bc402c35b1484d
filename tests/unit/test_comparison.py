"""Comparisons: which cells, in which order, under which settings, and that every end is a clean one."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from lib_pivotal.app import comparison as comparison_module
from lib_pivotal.app.comparison import IDLE_COMPARISON, Comparison, comparison_for
from lib_pivotal.app.comparison_plan import Choices, read_choices
from lib_pivotal.app.session import Busy, Session
from lib_pivotal.core.errors import BundleError, ConfigError, HostError
from tests.ui.fake_host import FakeHost, GatedEngine, good_config, write_images


def contents(*, unet=4, text_encoder=4, names=("zog", "mib"), settings=None) -> dict:
    """As much of a bundle's description as a comparison needs."""
    parts = {name: count for name, count in (("unet", unet), ("text encoder", text_encoder)) if count}
    return {
        "lora": {"layers": unet + text_encoder, "parts": parts},
        "embeddings": {name: {} for name in names},
        "family": "SD1",
        "metadata": {"pivotal_bundle": {"settings": settings}} if settings else {},
    }


@pytest.fixture
def described(monkeypatch) -> dict:
    found = contents()
    monkeypatch.setattr(comparison_module, "_describe", lambda path: found)
    return found


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path / "webui")
    for name in ("zog.safetensors", "people/cast.safetensors"):
        (host.lora_folder() / name).parent.mkdir(exist_ok=True)
        (host.lora_folder() / name).write_bytes(b"bundle")
    return host


@pytest.fixture
def comparison(host, described) -> Comparison:
    return Comparison(Session(host, GatedEngine()))


def compare(comparison: Comparison, **choices) -> dict:
    comparison.start(Choices(**choices))
    comparison.join(5)
    return comparison.status()


def wait_for(comparison: Comparison, **values) -> None:
    deadline = time.monotonic() + 5
    while any(comparison.status()[name] != value for name, value in values.items()):
        assert time.monotonic() < deadline, comparison.status()
        time.sleep(0.005)


def test_every_part_is_compared_on_every_prompt_and_slow_changes_are_outermost(comparison, host):
    status = compare(comparison, bundle="zog", prompts=("zog, hat", "a hill"), checkpoint=host.compare.titles[1])
    tags = ["<lora:zog:1> ", "<lora:zog:te=0:unet=1:ti=off> ", "<lora:zog:te=1:unet=0:ti=off> ",
            "<lora:zog:te=0:unet=0> ", ""]  # fmt: skip
    assert host.compare.made == [
        (title, f"{tag}{prompt}") for title in host.compare.titles for tag in tags for prompt in ("zog, hat", "a hill")
    ]
    columns, rows = host.compare.drawn[0]
    assert columns == ["whole bundle", "UNet LoRA only", "text encoder LoRA only", "embeddings only", "nothing"]
    assert rows == [[prompt, title] for title in host.compare.titles for prompt in ("zog, hat", "a hill")]
    assert (status["state"], status["done"], status["total"]) == ("done", 20, 20)
    assert set(status) == set(IDLE_COMPARISON)
    json.dumps(status, allow_nan=False)


def test_the_image_has_each_cell_in_its_place_and_all_infotexts(comparison, host):
    status = compare(comparison, bundle="zog", prompts=("a", "b"))
    image = Image.open(status["path"])
    assert Path(status["path"]) == host.compare.output_folder() / "compare-zog.png"
    # The color is the number of the image, made column by column and drawn row by row.
    assert [image.getpixel((4 + 8 * x, 4 + 8 * y))[0] for y in (0, 1) for x in range(5)] == [
        *(1, 3, 5, 7, 9),
        *(2, 4, 6, 8, 10),
    ]
    cells = json.loads(image.text["pivotal_comparison"])
    assert cells == status["cells"]
    assert [(cell["part"], cell["prompt"]) for cell in cells[:3]] == [("whole", "a"), ("whole", "b"), ("unet", "a")]
    assert image.text["parameters"] == cells[0]["infotext"] == "<lora:zog:1> a Seed: 1"
    again = compare(comparison, bundle="zog", prompts=("a",))
    assert Path(again["path"]).name == "compare-zog-2.png", "an earlier comparison is not overwritten"


def test_columns_without_content_are_left_out(comparison, host, described):
    described["lora"]["parts"] = {"unet": 4}
    assert compare(comparison, bundle="zog")["parts"] == ["whole", "unet", "embeddings", "nothing"]
    described["embeddings"] = {}
    assert compare(comparison, bundle="zog", prompts=("x",))["parts"] == ["whole", "nothing"]
    described["lora"] = {"layers": 0, "parts": {}}
    with pytest.raises(BundleError, match="neither"):
        comparison.start(Choices(bundle="zog"))


def test_prompts_default_to_the_samples_and_the_names_they_lack(comparison, described):
    settings = {"sample_prompts": "Zog on a hill\n\n <lora:zog:0.5> a hat", "sample_seed": 7, "resolution": 640}
    described["metadata"] = {"pivotal_bundle": {"settings": settings}}
    status = compare(comparison, bundle="zog")
    assert status["prompts"] == ["Zog on a hill", "a hat", "mib"]
    assert "Seed: 7" in status["cells"][0]["infotext"]
    assert Image.open(status["path"]).size == (40, 24)
    described["embeddings"] = {f"name{number}": {} for number in range(16)}
    status = compare(comparison, bundle="zog")
    assert (len(status["prompts"]), status["left_out"]) == (8, 10)
    described["embeddings"], described["metadata"] = {}, {"pivotal_bundle": {"settings": "?"}}
    with pytest.raises(ConfigError, match="no prompt"):
        comparison.start(Choices(bundle="zog"))


def test_the_latest_run_is_compared_by_default_with_its_settings(host, described, tmp_path):
    session = Session(host, GatedEngine())
    comparison = Comparison(session)
    with pytest.raises(BundleError, match="no bundle of a run"):
        comparison.start(Choices())
    config = good_config(write_images(tmp_path / "images"), sample_seed=9, clip_skip=2, sample_prompts="zog, hat")
    session.start(config)
    session.join(5)
    status = compare(comparison)
    assert Path(status["path"]) == Path(session.status()["run_folder"]) / "compare-000006.png"
    assert status["prompts"] == ["zog, hat", "mib"]
    assert "Seed: 9" in status["cells"][0]["infotext"]


def test_while_training_has_the_model_a_comparison_waits_for_its_turn(host, described, tmp_path):
    session = Session(host, GatedEngine(gated=True))
    comparison = Comparison(session)
    session.start(good_config(write_images(tmp_path / "images")))
    with pytest.raises(Busy, match="Training is running"):
        comparison.start(Choices())
    deadline = time.monotonic() + 5
    while "borrow" not in host.log:
        assert time.monotonic() < deadline, "the training never got the model"
        time.sleep(0.005)
    comparison.start(Choices(bundle="zog"))
    assert (comparison.status()["state"], host.compare.made) == ("queued", [])
    assert comparison.stop() and not comparison.stop()
    assert comparison.status()["state"] == "stopped", "it ends at once, not with the training"
    comparison.start(Choices(bundle="people/cast", prompts=("a",)))
    session.stop(discard=True)
    session.join(5)
    comparison.join(5)
    assert comparison.status()["state"] == "done"
    assert all("cast" in prompt or prompt == "a" for _, prompt in host.compare.made), "the stopped one was made"


def test_refused_while_another_is_made(comparison, host):
    host.compare.gate = threading.Semaphore(0)
    comparison.start(Choices(bundle="zog"))
    with pytest.raises(Busy, match="already"):
        comparison.start(Choices(bundle="zog"))
    comparison.stop()
    comparison.join(5)


def test_it_waits_for_the_queue_and_can_be_stopped_there_and_later(comparison, host):
    with host.queue:
        comparison.start(Choices(bundle="zog"))
        wait_for(comparison, state="queued")
        assert comparison.stop()
    comparison.join(5)
    assert (comparison.status()["state"], comparison.status()["path"]) == ("stopped", None)
    assert host.compare.made == [] == host.compare.drawn
    host.compare.gate = threading.Semaphore(3)
    task_id = comparison.start(Choices(bundle="zog"))
    wait_for(comparison, done=3)
    assert comparison.stop()
    comparison.join(5)
    status = comparison.status()
    assert (status["state"], status["is_active"], status["done"]) == ("stopped", False, 3)
    assert host.compare.interrupted[-1] == task_id
    assert host.compare.is_closed and not host.queue.locked()
    assert not comparison.stop()


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_finished_before_a_stop_or_a_failure_is_kept(comparison, host, fails):
    host.compare.gate = threading.Semaphore(3)
    comparison.start(Choices(bundle="zog", prompts=("a", "b"), checkpoint=host.compare.titles[1]))
    wait_for(comparison, done=3)
    host.compare.error = HostError("Memory ran out.") if fails else None
    host.compare.gate.release() if fails else comparison.stop()
    comparison.join(5)
    status = comparison.status()
    assert (status["state"], status["message"]) == (("failed", "Memory ran out.") if fails else ("stopped", ""))
    image = Image.open(status["path"])
    title = host.compare.titles[0]
    assert host.compare.drawn == [(["whole bundle", "UNet LoRA only"], [["a", title], ["b", title]])]
    # The last cell has no image yet.
    pixels = [image.getpixel((4 + 8 * x, 4 + 8 * y)) for y in (0, 1) for x in (0, 1)]
    assert ([pixel[0] for pixel in pixels[:3]], pixels[3]) == ([1, 3, 2], (255, 255, 255))
    assert [cell["part"] for cell in json.loads(image.text["pivotal_comparison"])] == ["whole", "whole", "unet"]


def test_a_failure_says_why_and_ends_cleanly(comparison, host):
    host.compare.error = HostError("The checkpoint is gone.", hint="Choose another.")
    status = compare(comparison, bundle="zog")
    assert (status["state"], status["message"], status["hint"]) == (
        "failed",
        "The checkpoint is gone.",
        "Choose another.",
    )
    host.compare.error = ZeroDivisionError("odd")
    assert "ZeroDivisionError: odd" in compare(comparison, bundle="zog")["message"]
    assert host.compare.is_closed and not host.queue.locked()
    host.compare.error = None
    assert compare(comparison, bundle="people/cast")["state"] == "done"


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"bundle": "gone"}, "no longer exists"),
        ({"bundle": "zog", "checkpoint": "gone"}, "no checkpoint"),
        ({"bundle": "zog", "checkpoint": "other.safetensors [2]"}, "for SD1, and the checkpoint other.*for SDXL"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(comparison, host, choices, words):
    host.compare.families = {"other.safetensors [2]": "SDXL"}
    with pytest.raises((BundleError, ConfigError), match=words):
        comparison.start(Choices(**choices))
    assert comparison.status()["state"] == "idle"


@pytest.mark.parametrize(
    "values",
    [[], {"seed": -1}, {"seed": True}, {"steps": 0}, {"width": 65}, {"cfg_scale": "7"}, {"prompts": "a"},
     {"prompts": [1]}, {"prompts": ["x"] * 65}, {"bundle": 1}, {"size": 1}],
)  # fmt: skip
def test_choices_are_checked(values):
    with pytest.raises(ConfigError):
        read_choices(values)


def test_choices():
    values = {"bundle": "a", "prompts": [" x ", ""], "cfg_scale": 7.5, "seed": 0, "width": 512}
    assert read_choices(values) == Choices("a", ("x",), cfg_scale=7.5, seed=0, width=512)


def test_one_comparison_per_session(comparison):
    assert comparison_for(comparison.session) is comparison_for(comparison.session)
