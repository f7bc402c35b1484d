"""The tab under a real Gradio: every value arrives under its own name, every button answers, nothing is lost."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import gradio
import pytest

from lib_pivotal.app.session import Session
from lib_pivotal.core.config.presets import find_preset
from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig, field_info
from lib_pivotal.core.config.subset_lines import show_subset_lines
from lib_pivotal.core.data.dataset_report import DatasetReport
from lib_pivotal.core.errors import ConfigError, OutOfMemory, PivotalError, Problem
from lib_pivotal.core.train.checks import Checked
from lib_pivotal.core.train.memory_estimate import DeviceMemory
from lib_pivotal.ui.concept_rows import AS_TEXT, CONCEPTS, TEXT
from lib_pivotal.ui.fields import SUBSETS, input_names
from lib_pivotal.ui.ids import FORBIDDEN_ENDS, element_id
from lib_pivotal.ui.listener import guard
from lib_pivotal.ui.tab import build_tab, build_tab_without_host
from lib_pivotal.ui.text import training as text
from tests.ui.fake_host import FakeBundleLibrary, GatedEngine, good_config, write_images
from tests.ui.page import Page

RUN = {name: element_id("run", name) for name in ("check", "train", "stop", "discard", "restore", "load", "refresh")}
NOTICE = element_id("run", "notice")


def setting_id(name: str) -> str:
    return element_id(field_info()[name]["block"], name)


def as_typed(value, kind: str):
    """A value as it is typed into its field."""
    if kind == "tuple":
        return ", ".join(value)
    return repr(value) if kind == "float" else value


def fill(page: Page, config: TrainConfig) -> None:
    """Type settings into the page, field by field, as a user would."""
    for name, info in field_info().items():
        if info["level"] == "headless":
            continue
        value = getattr(config, name)
        assert setting_id(name) in page.values, name
        page.values[setting_id(name)] = as_typed(value, info["type"])
    put_concepts(page, [asdict(concept) for concept in config.concepts])
    page.values[page_id(SUBSETS)] = show_subset_lines(config.subsets)


def put_concepts(page: Page, rows: list) -> None:
    """Concepts as the page's script writes them."""
    page.values[page_id(CONCEPTS)] = json.dumps(rows)


def concepts_of(page: Page) -> list:
    return json.loads(page.values[page_id(CONCEPTS)])


def distinct_config(images: Path) -> TrainConfig:
    """A different valid value, not the default, for every setting and every cell."""
    values: dict[str, object] = {}
    for number, (name, info) in enumerate(field_info().items()):
        if info["level"] == "headless":
            continue
        if info["choices"]:
            values[name] = info["choices"][-1]
        elif info["type"] == "bool":
            values[name] = not info["default"]
        elif info["type"] == "str":
            values[name] = f"text-{number}"
        elif info["type"] == "tuple":
            values[name] = (f"tag-{number}", "another tag")
        elif info["type"] == "int":
            low = max(info["low"], 1)
            values[name] = int(min(low + 1 + number, info["high"]))
        else:
            values[name] = info["low"] + (info["high"] - info["low"]) * 1e-3 * (number + 0.123456789)
    values["data_folder"] = str(images)
    concepts = tuple(
        Concept(f"zog_{row}x", f"start {row}", 1 + row, ("zog", f"tag {row}")[row > 0 :], 1.5 + row, 0.01 * (row + 1))
        for row in range(60)
    )
    subsets = (Subset("/one", always=("zog", "mib"), repeats=0.5), Subset("D:\\two", kind="regularization"))
    return TrainConfig(concepts=concepts, subsets=subsets, **values)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_every_value_reaches_the_engine_under_its_own_name(page, session, engine, images, monkeypatch):
    config = distinct_config(images)
    # The checks have their own tests; made-up captions would not pass them.
    passed = Checked([], DatasetReport(images), knew_tokens=True)
    monkeypatch.setattr("lib_pivotal.app.session.check", lambda config, **_: passed)
    fill(page, config)
    page.press(RUN["train"])
    wait_until(lambda: engine.configs)
    sent = engine.configs[0]
    assert [name for name in field_info() if getattr(sent, name) != getattr(config, name)] == []
    assert (sent.concepts, sent.subsets) == (config.concepts, config.subsets)


def test_settings_survive_start_and_restart(page, session, engine, images):
    more = write_images(images.parent / "more")
    subset = Subset(str(more), kind="validation", repeats=2.5, always=("zog",), caption_prefix="a ||| ")
    config = good_config(images, unet_lr=3e-7, embedding_lr=0.1 + 0.2, sample_prompts="one\ntwo", subsets=(subset,))
    fill(page, config)
    page.press(RUN["train"])
    wait_until(lambda: engine.configs)
    fresh = Page(build_tab(Session(session.host, GatedEngine()), FakeBundleLibrary()))
    changed = fresh.press(RUN["load"])
    for name in input_names():
        assert page_id(name) in changed
    session.stop(discard=True)
    session.join(5)
    fresh.press(RUN["train"])
    again = Session(session.host).last_config()
    assert again == config


def page_id(name: str) -> str:
    ends = {SUBSETS: "images_subsets", CONCEPTS: "concepts_json", AS_TEXT: "concepts_as_text", TEXT: "concepts_text"}
    return f"pivotal_{ends[name]}" if name in ends else setting_id(name)


def test_restore_says_when_there_is_nothing(page):
    assert page.press(RUN["load"]).keys() == {element_id("run", "page_status"), element_id("first", "steps")}
    assert page.press(RUN["restore"]).keys() == {NOTICE}
    assert text.MESSAGES["nothing_to_restore"] in page.values[NOTICE]


def test_a_first_visitor_can_train_on_the_sample_images(page, session, engine, host):
    assert page.press(RUN["load"])[element_id("first", "steps")]["visible"] is True
    page.press(element_id("first", "samples"))
    assert "Click Train" in page.values[NOTICE]
    page.press(RUN["train"])
    wait_until(lambda: engine.configs)
    (config,) = engine.configs
    assert [concept.name for concept in config.concepts] == ["zogbot"] and config.output_name == "zogbot"
    assert Path(config.data_folder).parent == host.data_root()
    assert page.press(RUN["check"]), "nothing is wrong with them"
    session.stop(discard=True)
    session.join(5)
    page.press(RUN["check"])
    assert text.MESSAGES["no_problems"] in page.values[NOTICE], page.values[NOTICE]
    again = Page(build_tab(session, FakeBundleLibrary())).press(RUN["load"])
    assert element_id("first", "steps") not in again, "only a first visitor needs the steps"


def test_unreadable_last_settings_are_reported(page, host):
    host.data_root().mkdir(parents=True)
    (host.data_root() / "last.json").write_text('{"ranck": 3}')
    for name in ("restore", "load"):
        page.values[NOTICE] = ""
        changed = page.press(RUN[name])
        assert "rank" in page.values[NOTICE]
    assert element_id("run", "page_status") in changed, "the page's script would wait for ever"


def test_train_with_errors_starts_nothing_and_lists_all(page, session):
    page.values[setting_id("rank")] = 2.5
    page.values[setting_id("unet_lr")] = "fast"
    page.press(RUN["train"])
    notice = page.values[NOTICE]
    assert "LoRA rank" in notice
    assert "UNet learning rate" in notice
    assert "Image folder" in notice
    assert session.status()["state"] == "idle"
    page.values[setting_id("rank")] = None
    page.values[setting_id("unet_lr")] = "2e-4"
    page.press(RUN["train"])
    assert "LoRA rank" in page.values[NOTICE]
    page.values[setting_id("rank")] = 16
    page.press(RUN["train"])
    for label in ("Image folder", "Output name"):
        assert label in page.values[NOTICE]
    assert session.status()["state"] == "idle"


def test_check_reports_everything_at_once(page, host, images):
    """A value that is not a number hides no report on the dataset, the names or the webui."""
    fill(page, good_config(images))
    (images / "broken.png").write_bytes(b"x")
    host.obstacles = [Problem("webui", "error", "Low memory.", "Restart.")]
    page.values[setting_id("unet_lr")] = "fast"
    put_concepts(page, [{"name": "zog"}, {"name": "bad.name"}])
    page.press(RUN["check"])
    for word in ("UNet learning rate", "broken.png", "Low memory.", "Row 2, Name", "bad.name"):
        assert word in page.values[NOTICE], word


@pytest.mark.parametrize("button", ["check", "train"])
def test_problems_of_further_folders_name_the_line(page, images, button):
    fill(page, good_config(images))
    page.values[page_id(SUBSETS)] = f"\n{images / 'gone'} | repeats=-1\n\n/x | kind=pets\n"
    page.press(RUN[button])
    for words in ("More folders", "Line 2, folder:", "gone does not exist", "Line 2, repeats: -1", "Line 4: kind="):
        assert words in page.values[NOTICE], words


@pytest.mark.parametrize("button", ["check", "train"])
def test_an_empty_row_does_not_shift_the_problems_of_the_others(page, images, button):
    fill(page, good_config(images, concepts=()))
    put_concepts(page, [{"vectors": 4}, {"name": "zog", "stop_at": "late"}, {"name": " "}, {"name": "bad.name"}, 5])
    page.press(RUN[button])
    for label in ("Row 2, Stop training at", "Row 4, Name", "Row 5<"):
        assert label in page.values[NOTICE]
    for label in ("Row 1", "Row 2, Name", "Row 3"):
        assert label not in page.values[NOTICE]
    problems = json.loads(page.values[element_id("concepts", "report")])["problems"]
    assert [(item["row"], item["field"]) for item in problems][:2] == [(1, "stop_at"), (4, "name")]


def test_check_shows_what_each_concept_gets(page, images):
    fill(page, good_config(images, concepts=(Concept("zog", aliases=("number 0",)), Concept("<mib>")), steps=900))
    (images / "0.txt").write_text("zog, <mib>")
    page.press(RUN["check"])
    notice = page.values[NOTICE]
    assert "6 images, 900 steps, 1800 samples" in notice
    assert "&lt;mib&gt;" in notice
    assert "<mib>" not in notice
    assert notice.count("pivotal-unusual") == 2, "each image is seen more than 200 times"
    page.values[setting_id("rank")] = -1
    page.press(RUN["check"])
    assert "pivotal-table" not in page.values[NOTICE]


def test_check_estimates_the_memory_and_says_what_is_missing(page, host, images):
    fill(page, good_config(images))
    page.press(RUN["check"])
    assert "GPU memory" not in page.values[NOTICE]
    host.memory = DeviceMemory("sd1", unet=2**31, text_encoders=2**28, vae=2**27, available=2**33)
    page.press(RUN["check"])
    assert "8.0 GiB are available" in page.values[NOTICE]
    assert "pivotal-errors" not in page.values[NOTICE]
    host.memory = replace(host.memory, available=2**30)
    page.press(RUN["check"])
    assert "The UNet alone needs 2.0 GiB of GPU memory" in page.values[NOTICE]


def test_a_preset_fills_in_its_settings_and_nothing_else(page, images):
    fill(page, good_config(images, seed=7))
    preset = find_preset("cast-sdxl")
    page.values[element_id("run", "preset")] = preset.title
    changed = page.press(element_id("run", "preset"))
    expected = {setting_id(name) for name in preset.settings}
    # And a question about another preset goes.
    expected |= {element_id("preset", "answered"), element_id("presets", "preset_delete_sure")}
    assert set(changed) == expected | {NOTICE} | {page_id(name) for name in (CONCEPTS, AS_TEXT, TEXT)}
    assert preset.why in page.values[NOTICE]
    page.press(RUN["check"])
    assert "pivotal-errors" not in page.values[NOTICE]
    assert (page.values[setting_id("resolution")], page.values[setting_id("embedding_lr")]) == (1024, "0.0012")
    assert concepts_of(page) == [{**asdict(Concept("zog", "hill")), "aliases": [], "core_tags": [], **preset.concept}]
    # Clearing the field changes nothing.
    page.values[element_id("run", "preset")] = None
    assert set(page.press(element_id("run", "preset"))) == {element_id("preset", "answered")}


def test_check_reports_host_and_data_and_escapes(page, host, images):
    fill(page, good_config(images))
    page.press(RUN["check"])
    assert "pivotal-errors" not in page.values[NOTICE]
    host.obstacles = [Problem("webui", "error", "Low <memory>.", "Restart & wait.")]
    put_concepts(page, [{"name": "taken"}])
    page.press(RUN["check"])
    notice = page.values[NOTICE]
    assert "Low &lt;memory&gt;" in notice
    assert "Restart &amp; wait." in notice
    assert "taken.pt" in notice
    assert "Row 1, Name" in notice


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ConfigError([Problem("rank", "error", "wrong", "better")]), "wrong"),
        (PivotalError("broken", hint="mend it"), "mend it"),
        (RuntimeError("surprise <1>"), "surprise &lt;1&gt;"),
    ],
)
def test_every_failure_of_a_handler_is_shown(error, word):
    def fail(values):
        raise error

    notice, other = guard(fail, ["a"], ["notice", "status"])(1)
    assert word in notice
    assert "Traceback" not in notice
    assert other == gradio.update()
    assert guard(lambda values: {"notice": values["a"]}, ["a"], ["notice"])("b") == "b"


def test_every_button_answers_in_every_state(page, session, engine, images):
    names = [*RUN.values(), element_id("run", "save_now"), element_id("run", "sample_now")]
    fill(page, good_config(images, steps=0, output_name="first"))
    for name in [item for item in names if item != RUN["train"]]:
        page.press(name)
    page.press(RUN["train"])
    wait_until(lambda: session.status()["state"] == "training")
    for name in [item for item in names if item not in (RUN["stop"], RUN["discard"])]:
        page.press(name)
    page.press(RUN["train"])
    assert "already running" in page.values[NOTICE]
    page.press(RUN["discard"])
    session.join(5)
    for name in names:
        page.press(name)


def test_a_run_from_start_to_result(page, session, engine, host, images):
    fill(page, good_config(images, steps=4))
    page.press(RUN["train"])
    answer = json.loads(page.values[element_id("run", "page_status")])
    assert answer["is_active"]
    assert set(answer) == {"state", "is_active", "task_id", "is_queue_on"}
    engine.allow(3)
    wait_until(lambda: session.status()["step"] == 3)
    changed = page.press(RUN["refresh"])
    assert changed[RUN["train"]]["interactive"] is False
    assert changed[RUN["stop"]]["interactive"] is True
    assert "Step 3 of 4" in page.values[element_id("run", "status")]
    assert "<svg" in page.values[element_id("run", "plot")]
    assert len(changed[element_id("run", "gallery")]["value"]) == 1
    assert element_id("run", "gallery") not in page.press(RUN["refresh"]), "images sent again for nothing"
    engine.allow(1)
    session.join(5)
    changed = page.press(RUN["refresh"])
    assert changed[RUN["train"]]["interactive"] is True
    assert changed[element_id("result", "card")]["visible"] is True
    assert page.values[element_id("result", "words")] == "<lora:zog-bundle:1> zog"
    assert page.values[NOTICE] == ""
    assert host.written == [host.lora_folder() / "zog-bundle.safetensors"]


def test_what_has_not_changed_is_not_sent_again(page, session, engine, images):
    panels = {element_id("run", name) for name in ("status", "warnings", "plot")} | {element_id("result", "paths")}
    session.start(good_config(images, steps=4))
    engine.allow(2)
    wait_until(lambda: session.status()["step"] == 2)
    assert panels <= page.press(RUN["refresh"]).keys()
    assert not panels & page.press(RUN["refresh"]).keys(), "what the user has opened or selected is replaced"
    engine.allow(1)
    wait_until(lambda: session.status()["step"] == 3)
    changed = page.press(RUN["refresh"]).keys()
    assert panels & changed == {element_id("run", "status"), element_id("run", "plot")}


def test_a_reloaded_page_sees_the_run(session, engine, images):
    task_id = session.start(good_config(images))
    engine.allow(2)
    wait_until(lambda: session.status()["step"] == 2)
    page = Page(build_tab(session, FakeBundleLibrary()))
    page.press(RUN["load"])
    shown = page.press(RUN["refresh"])
    assert json.loads(page.values[element_id("run", "page_status")])["task_id"] == task_id
    assert concepts_of(page)[0]["name"] == "zog"
    assert shown[element_id("run", "gallery")]["value"]
    page.press(RUN["stop"])
    session.join(5)
    assert session.status()["state"] == "stopped"


def test_an_answer_shows_one_moment_even_if_the_run_ends_while_it_is_made(page, session, images, monkeypatch):
    """Otherwise the page could stop asking while it still shows a run in progress."""
    session.start(good_config(images))
    wait_until(lambda: session.status()["state"] == "training")
    status = session.status

    def last_moment():
        before = status()
        session.stop(discard=True)
        session.join(5)
        return before

    monkeypatch.setattr(session, "status", last_moment)
    changed = page.press(RUN["refresh"])
    is_active = json.loads(page.values[element_id("run", "page_status")])["is_active"]
    assert changed[RUN["train"]]["interactive"] != is_active


def test_a_run_stopped_before_its_first_step_does_not_speak_of_a_result(page, session, host, images):
    with host.queue:
        session.start(good_config(images))
        session.stop()
    session.join(5)
    page.press(RUN["refresh"])
    shown = page.values[element_id("run", "status")]
    assert "before the first step" in shown
    assert "is kept" not in shown


def test_a_failed_run_says_why_and_where(page, session, images):
    session._engine = GatedEngine(error=OutOfMemory("training", hint="Lower the batch size."))
    session.start(good_config(images))
    session.join(5)
    page.press(RUN["refresh"])
    shown = page.values[element_id("run", "status")]
    assert "Lower the batch size." in shown
    assert "log.txt" in shown
    assert "&lt;b&gt;careful&lt;/b&gt;" in page.values[element_id("run", "warnings")]
    assert "Traceback" in Path(session.status()["log_path"]).read_text()


def test_events_tell_the_script(page):
    for button in (RUN["train"], RUN["stop"], RUN["refresh"], RUN["load"]):
        codes = [item.get("js") for item in page.followers(button)]
        assert codes, button
        assert any("pivotal.update" in code for code in codes)


def test_ids_and_labels(page):
    ids = page.ids()
    assert len(ids) == len(set(ids))
    assert [name for name in ids if not name.startswith("pivotal_")] == []
    # The webui's key handlers look for such buttons; pivotal_training_clip_skip is a number field.
    buttons = [item["props"].get("elem_id") or "" for item in page.parts.values() if item["type"] == "button"]
    assert len(buttons) > 10
    assert [name for name in buttons if name.endswith(FORBIDDEN_ENDS)] == []
    labels = [
        item["props"]["label"]
        for item in page.parts.values()
        if item["props"].get("label") and item["type"] not in ("button", "accordion")
    ]
    assert sorted(labels) == sorted(set(labels))


def test_every_setting_but_headless_ones_is_on_the_tab(page):
    expected = {setting_id(name) for name, info in field_info().items() if info["level"] != "headless"}
    assert expected <= set(page.ids())
    assert element_id("model", "checkpoint") not in page.ids()


def test_a_webui_that_cannot_train_says_why():
    parts = Page(build_tab_without_host("Too <old>.", FakeBundleLibrary())).parts.values()
    assert any("Too &lt;old&gt;." in str(item["props"].get("value")) for item in parts)


def test_the_samples_have_a_column_per_prompt(page, session, monkeypatch, images):
    samples = [
        {"step": step, "index": index, "prompt": f"prompt {index}", "path": str(images / f"{index}.png")}
        for step in (0, 10)
        for index in range(4)
    ]
    status = {**session.status(), "samples": samples, "task_id": "task(x)"}
    monkeypatch.setattr(session, "status", lambda: status)
    changed = page.press(RUN["refresh"])[element_id("run", "gallery")]
    assert len(changed["value"]) == 8
    # The page of Gradio 3 knows it under another name.
    assert changed.get("grid_cols", changed.get("columns")) == 4
