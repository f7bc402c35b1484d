"""The part "Runs", the queue, the presets and "How long" under a real Gradio, through their wiring."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from lib_pivotal.app.own_presets import PresetLibrary
from lib_pivotal.core.config.io import from_json, to_json
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.train.run_record import record_end, record_start
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.text.runs import RUN_MESSAGES
from tests.ui.fake_host import FakeHost, good_config
from tests.ui.page import Page
from tests.ui.test_tab import NOTICE, concepts_of, fill, page_id, put_concepts, setting_id, wait_until

RUNS = {
    name: element_id("runs", name)
    for name in (
        "notice", "list", "run", "view", "more", "refresh", "open", "name", "load", "weights", "delete", "delete_sure",
        "delete_steps", "delete_steps_sure", "use", "words", "continue", "steps", "use_fields", "queue", "steps_view", "run_step", "choose", "choose_sure", "run_other",
        "compare", "comparison",
    )
}  # fmt: skip
QUEUE = {name: element_id("queue", name) for name in ("view", "start", "stop", "up", "down", "remove", "refresh")}
QUEUE_ITEM = element_id("runs", "queue_item")
PRESETS = {
    name: element_id("presets", name)
    for name in ("presets_refresh", "preset_name", "preset_save", "preset_replace", "preset_delete",
                 "preset_delete_sure", "settings_text", "settings_export", "settings_use")
}  # fmt: skip
PRESET = element_id("run", "preset")
LENGTH = {name: element_id("length", name) for name in ("view", "half", "full", "double", "refresh")}


def past_run(host: FakeHost, images: Path, name: str, *, number: int = 1, **changes) -> str:
    """A run folder as the engine leaves it, without states."""
    config = good_config(images, output_name=name, **changes)
    folder = host.data_root() / "runs" / f"{name}-2026010{number}-101500"
    (folder / "samples").mkdir(parents=True)
    (folder / "config.json").write_text(to_json(config))
    (folder / "loss.csv").write_text("step,loss\n" + "".join(f"{step},{1 / step}\n" for step in range(1, 7)))
    (folder / "validation.csv").write_text("step,caption\n2,0.5\n4,0.25\n6,0.75\n")
    for step in (0, 2, 4, 6):
        Image.new("RGB", (64, 64), (40 * step, 9, 9)).save(folder / "samples" / f"step-{step:06d}-0.png")
    files = {f"{name}-{step:06d}.safetensors": ["x"] for step in (0, 2, 4)}
    for file in files:
        (host.lora_folder() / file).write_bytes(b"bundle")
    (host.lora_folder() / f"{name}.safetensors").write_bytes(b"bundle")
    (folder / "files.json").write_text(json.dumps({"bundle": name, "files": files}))
    record_start(folder, family="sd1", model_name="some <model>", total_steps=6)
    record_end(folder, "done", step=6, seconds_per_step=2.0)
    return folder.name


def select(page: Page, name: str) -> None:
    page.values[RUNS["run"]] = name
    page.press(RUNS["run"])


def test_past_runs_are_listed_with_image_numbers_and_state(page, host, images):
    page.press(RUNS["refresh"])
    assert RUN_MESSAGES["none"] in page.values[RUNS["list"]]
    first, second = past_run(host, images, "zog"), past_run(host, images, "mib", number=2)
    (host.data_root() / "runs" / "<b>odd").mkdir()
    (host.data_root() / "runs" / "<b>odd" / "config.json").write_text("{")
    changed = page.press(RUNS["refresh"])
    shown = page.values[RUNS["list"]]
    assert 0 < shown.index(second) < shown.index(first)
    for words in ("some &lt;model&gt;", "2026-01-01 10:15", "6 of 6", "finished", "0.7500", "data:image/jpeg;base64,"):
        assert words in shown, words
    assert "<b>odd" not in shown and "&lt;b&gt;odd" in shown and "interrupted" in shown
    assert len(changed[RUNS["run"]]["choices"]) == 3
    assert changed[RUNS["more"]]["visible"] is False


def test_a_click_in_the_list_selects_the_run(page, host, images):
    name = past_run(host, images, "zog")
    page.press(RUNS["refresh"])
    assert f'data-pivotal-run="{name}"' in page.values[RUNS["list"]]
    page.values[RUNS["name"]] = name
    changed = page.press(RUNS["open"])
    assert changed[RUNS["run"]]["value"] == name
    for words in ("no saved state", "<svg", "data:image/jpeg", name):
        assert words in page.values[RUNS["view"]], words
    assert page.values[RUNS["steps"]] == 6
    # Only kept steps can be chosen, never step 0, and the best is that of the least validation loss.
    assert [choice if isinstance(choice, str) else choice[0] for choice in changed[RUNS["run_step"]]["choices"]] == [
        "2", "4"
    ]  # fmt: skip
    assert changed[RUNS["run_step"]]["value"] == "4"
    assert page.values[RUNS["steps_view"]].count("pivotal-best") == 1
    page.values[RUNS["name"]] = "gone"
    page.press(RUNS["open"])
    assert "There is no run gone" in page.values[RUNS["notice"]]


def test_loading_settings_fills_in_the_training_part(page, host, images):
    name = past_run(host, images, "zog", rank=24, concepts=(Concept("zog"), Concept("mib", aliases=("number 1",))))
    select(page, name)
    changed = page.press(RUNS["load"])
    assert page.values[setting_id("rank")] == 24
    assert (concepts_of(page)[1]["name"], page.values[setting_id("output_name")]) == ("mib", "zog")
    assert changed["pivotal_tab"]["selected"] == "train"
    assert name in page.values[NOTICE]
    (host.data_root() / "runs" / name / "config.json").write_text('{"rank": 5, "from_the_future": 1}')
    page.press(RUNS["load"])
    assert page.values[setting_id("rank")] == 5 and "from_the_future" in page.values[NOTICE]
    (host.data_root() / "runs" / name / "config.json").write_text("{")
    page.press(RUNS["load"])
    assert "not JSON" in page.values[RUNS["notice"]]


def test_a_new_run_from_the_weights_of_another(page, host, images):
    name = past_run(host, images, "zog")
    select(page, name)
    page.press(RUNS["weights"])
    assert page.values[setting_id("start_from")] == str(host.lora_folder() / "zog.safetensors")
    assert page.values[setting_id("output_name")] == "zog-2"
    for path in host.lora_folder().iterdir():
        path.unlink()
    page.press(RUNS["weights"])
    assert "its bundle is gone" in page.values[RUNS["notice"]]
    saved_state(host, name, good_config(images))
    page.press(RUNS["weights"])
    assert page.values[setting_id("start_from")].endswith("state-000004.safetensors")


def test_the_bundle_of_a_run_is_used_in_a_prompt(page, host, images):
    name = past_run(host, images, "zog")
    select(page, name)
    page.press(RUNS["use"])
    assert page.values[RUNS["words"]] == "<lora:zog:1> zog"
    (script,) = page.followers(RUNS["use"])
    assert script["inputs"], "the page's script gets the words"
    (host.lora_folder() / "zog.safetensors").unlink()
    page.press(RUNS["use"])
    assert page.values[RUNS["words"]] == "" and "no longer in the Lora folder" in page.values[RUNS["notice"]]


def test_every_button_says_when_nothing_is_selected(page):
    for name in ("use", "load", "weights", "delete", "delete_sure", "delete_steps", "delete_steps_sure", "continue",
                 "queue", "choose", "choose_sure", "compare"):  # fmt: skip
        page.values[RUNS["notice"]] = ""
        page.press(RUNS[name])
        assert "pivotal-bad" in page.values[RUNS["notice"]], name
    for name in ("up", "down", "remove"):
        page.values[RUNS["notice"]] = ""
        page.press(QUEUE[name])
        assert "No run of the queue is selected" in page.values[RUNS["notice"]]
    page.press(QUEUE["start"])
    assert RUN_MESSAGES["queue_nothing"] in page.values[RUNS["notice"]]


def saved_state(host: FakeHost, name: str, config, step: int = 4) -> None:
    """A state of which only the header matters."""
    from lib_pivotal.core.config.io import to_dict

    facts = {"step": step, "config": to_dict(config), "data": "d", "model": "m", "bundle_path": "b", "steps": 6}
    header = json.dumps({"__metadata__": {"pivotal_state": json.dumps(facts)}}).encode()
    folder = host.data_root() / "runs" / name / "states"
    folder.mkdir(exist_ok=True)
    (folder / f"state-{step:06d}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def test_a_run_continues_from_the_page(page, session, engine, host, images):
    name = past_run(host, images, "zog")
    select(page, name)
    page.press(RUNS["continue"])
    assert "no saved state" in page.values[RUNS["notice"]]
    saved_state(host, name, good_config(images, output_name="zog"), step=6)
    page.press(RUNS["continue"])
    assert "larger number of steps" in page.values[RUNS["notice"]]
    page.values[RUNS["steps"]] = 2.5
    page.press(RUNS["continue"])
    assert "whole number" in page.values[RUNS["notice"]]
    # Settings of the training part are used only on request, and only if they may differ.
    fill(page, good_config(images, output_name="zog", unet_lr=1e-5, sample_prompts="new"))
    page.values[RUNS["steps"]], page.values[RUNS["use_fields"]] = 9, True
    page.press(RUNS["continue"])
    assert "UNet learning rate" in page.values[RUNS["notice"]] and not session.is_active
    page.values[setting_id("unet_lr")] = "2e-4"
    page.press(RUNS["continue"])
    wait_until(lambda: engine.configs)
    assert (engine.configs[0].steps, engine.configs[0].sample_prompts) == (9, "new")
    assert Path(session.status()["run_folder"]).name == name, "it keeps its folder"
    assert json.loads(page.values[element_id("run", "page_status")])["is_active"]
    page.press(RUNS["refresh"])
    assert "in progress" in page.values[RUNS["list"]]


def test_states_are_deleted_only_after_a_question(page, host, images):
    name = past_run(host, images, "zog")
    saved_state(host, name, good_config(images))
    select(page, name)
    changed = page.press(RUNS["delete"])
    assert changed[RUNS["delete_sure"]]["visible"] is True
    assert (host.data_root() / "runs" / name / "states" / "state-000004.safetensors").exists()
    page.press(RUNS["delete_sure"])
    assert "states were deleted" in page.values[RUNS["notice"]]
    assert not (host.data_root() / "runs" / name / "states" / "state-000004.safetensors").exists()
    assert "no saved state" in page.values[RUNS["view"]]


def test_steps_to_choose_from_are_deleted_only_after_a_question(page, host, images):
    name = past_run(host, images, "zog")
    kept = host.data_root() / "runs" / name / "steps" / "zog-000006.safetensors"
    kept.parent.mkdir()
    kept.write_bytes(bytes(3 * 2**20))
    select(page, name)
    assert "in its folder: 3.0 MiB" in page.values[RUNS["view"]]
    assert page.press(RUNS["delete_steps"])[RUNS["delete_steps_sure"]]["visible"] is True and kept.exists()
    page.press(RUNS["delete_steps_sure"])
    assert "which freed 3.0 MiB" in page.values[RUNS["notice"]] and not kept.exists()
    assert (host.lora_folder() / "zog-000004.safetensors").exists()


def test_choosing_a_step_asks_before_it_replaces_a_file(page, session, host, images, monkeypatch):
    from lib_pivotal.app.run_history import RunHistory
    from lib_pivotal.core.errors import NameTaken

    calls = []

    def choose(_self, name, step, *, overwrite=False):
        calls.append((name, step, overwrite))
        if not overwrite:
            raise NameTaken("zog.safetensors is not from this run.")
        return host.lora_folder() / "zog.safetensors"

    monkeypatch.setattr(RunHistory, "choose_step", choose)
    name = past_run(host, images, "zog")
    select(page, name)
    page.values[RUNS["run_step"]] = "4"
    changed = page.press(RUNS["choose"])
    assert "Replace it anyway?" in page.values[RUNS["notice"]] and changed[RUNS["choose_sure"]]["visible"] is True
    page.press(RUNS["choose_sure"])
    assert calls == [(name, 4, False), (name, 4, True)]
    assert "bundle of step 4" in page.values[RUNS["notice"]]


def test_two_runs_side_by_side(page, host, images):
    first = past_run(host, images, "zog")
    second = past_run(host, images, "mib", number=2, rank=24, sample_negative="<i>x</i>")
    select(page, first)
    page.values[RUNS["run_other"]] = first
    page.press(RUNS["compare"])
    assert "two different runs" in page.values[RUNS["notice"]]
    page.values[RUNS["run_other"]] = second
    page.press(RUNS["compare"])
    shown = page.values[RUNS["comparison"]]
    for words in ("LoRA rank", ">24<", "&lt;i&gt;x", first, second):
        assert words in shown, words
    assert shown.count('class="pivotal-chart"') == 2 and "Batch size" not in shown


def add_to_queue(page: Page, images: Path, name: str) -> None:
    fill(page, good_config(images, output_name=name, steps=2))
    page.press(element_id("run", "queue_add"))
    assert f"Added to the queue as {name}" in page.values[NOTICE], page.values[NOTICE]


def test_the_queue_from_the_page(page, session, engine, images):
    for name in ("a", "b", "c"):
        add_to_queue(page, images, name)
    assert "Click &quot;Start queue&quot;" in page.values[NOTICE]
    page.press(element_id("run", "queue_add"))
    assert "Another run of the queue" in page.values[NOTICE]
    changed = page.press(QUEUE["refresh"])
    assert len(changed[QUEUE_ITEM]["choices"]) == 3
    page.values[QUEUE_ITEM] = "3. c"
    changed = page.press(QUEUE["up"])
    assert changed[QUEUE_ITEM]["value"] == "2. c", "the run stays selected"
    page.values[QUEUE_ITEM] = "3. b"
    changed = page.press(QUEUE["remove"])
    assert changed[QUEUE_ITEM]["value"] is None, "another run may have its text now"
    assert "pivotal-queue-on" not in page.values[QUEUE["view"]]
    assert "The queue is not running" in page.values[QUEUE["view"]]
    page.press(QUEUE["start"])
    # The page's script follows the run, also while the next one is being checked.
    status = json.loads(page.values[element_id("run", "page_status")])
    assert status["is_active"] and status["is_queue_on"]
    (follower,) = page.followers(QUEUE["start"])
    assert "pivotal.update" in str(follower)
    assert "in progress" in page.values[QUEUE["view"]] and "pivotal-queue-on" in page.values[QUEUE["view"]]
    engine.allow(2)
    wait_until(lambda: len(engine.configs) == 2)
    page.press(QUEUE["stop"])
    session.join(5)
    wait_until(lambda: not session.is_active)
    assert [config.output_name for config in engine.configs] == ["a", "c"]
    page.press(QUEUE["refresh"])
    for state in ("finished", "stopped", "No run is waiting"):
        assert state in page.values[QUEUE["view"]]
    page.press(element_id("run", "refresh"))
    assert not json.loads(page.values[element_id("run", "page_status")])["is_queue_on"]


def test_a_continuation_can_wait_in_the_queue(page, session, host, images):
    name = past_run(host, images, "zog")
    saved_state(host, name, good_config(images, output_name="zog"))
    select(page, name)
    page.values[RUNS["steps"]] = 12
    page.press(RUNS["queue"])
    (item,) = session.queue.items()
    assert (Path(item.resume).name, item.config["steps"]) == (name, 12)
    assert f"{name} (continued)" in page.values[QUEUE["view"]]
    page.press(RUNS["queue"])
    assert "in the queue already" in page.values[RUNS["notice"]]


def test_own_presets_are_saved_replaced_used_and_deleted(page, host, images):
    fill(page, good_config(images, rank=24))
    page.values[PRESETS["preset_name"]] = "mine"
    changed = page.press(PRESETS["preset_save"])
    assert changed[PRESET]["value"] == "mine"
    page.values[setting_id("rank")] = 3
    changed = page.press(PRESETS["preset_save"])
    assert changed[PRESETS["preset_replace"]]["visible"] is True and "Replace it?" in page.values[NOTICE]
    library = PresetLibrary(host.data_root)
    assert library.find("mine").settings["rank"] == 24
    page.press(PRESETS["preset_replace"])
    assert library.find("mine").settings["rank"] == 3
    page.values[setting_id("rank")], page.values[setting_id("output_name")] = 77, "kept"
    page.values[PRESET] = "mine"
    page.press(PRESET)
    assert (page.values[setting_id("rank")], page.values[setting_id("output_name")]) == (3, "kept")
    page.press(PRESETS["preset_delete"])
    assert library.is_own("mine") and "Delete the preset mine?" in page.values[NOTICE]
    page.press(PRESETS["preset_delete_sure"])
    assert not library.is_own("mine")
    page.values[PRESET] = "cast-sd1"
    page.press(PRESETS["preset_delete"])
    assert "Only your own presets" in page.values[NOTICE]


def test_yes_is_an_answer_for_the_preset_of_the_question_only(page, host, images):
    library = PresetLibrary(host.data_root)
    for rank, name in ((11, "a"), (12, "b")):
        fill(page, good_config(images, rank=rank))
        page.values[PRESETS["preset_name"]] = name
        page.press(PRESETS["preset_save"])
    page.values[PRESET] = "a"
    page.press(PRESETS["preset_delete"])
    page.values[PRESET] = "b"
    changed = page.press(PRESET)
    assert changed[PRESETS["preset_delete_sure"]]["visible"] is False
    # The button may still be pressed while the answer is on its way.
    page.press(PRESETS["preset_delete_sure"])
    assert library.is_own("a") and library.is_own("b") and "Delete the preset b?" in page.values[NOTICE]
    page.values[PRESETS["preset_name"]] = "a"
    page.press(PRESETS["preset_save"])
    page.values[PRESETS["preset_name"]] = "b"
    page.values[setting_id("rank")] = 13
    page.press(PRESETS["preset_replace"])
    assert library.find("b").settings["rank"] == 12 and "preset b. Replace it?" in page.values[NOTICE]
    page.press(PRESETS["preset_replace"])
    assert library.find("b").settings["rank"] == 13


def test_a_broken_preset_is_reported_and_the_others_are_listed(page, host):
    folder = host.data_root() / "presets"
    folder.mkdir(parents=True)
    (folder / "bad.json").write_text("{")
    (folder / "good.json").write_text('{"settings": {"rank": 9}}')
    changed = page.press(PRESETS["presets_refresh"])
    names = [choice if isinstance(choice, str) else choice[0] for choice in changed[PRESET]["choices"]]
    assert "good" in names and "bad" not in names and len(names) > 5
    assert "bad.json" in page.values[NOTICE]


def test_all_settings_can_be_exported_and_imported_as_text(page, images):
    config = good_config(images, rank=24, sample_prompts="one\ntwo", concepts=(Concept("zog", aliases=("a", "b")),))
    fill(page, config)
    page.press(PRESETS["settings_export"])
    assert from_json(page.values[PRESETS["settings_text"]]) == config
    page.values[setting_id("rank")] = 1
    put_concepts(page, [{"name": "other"}])
    page.press(PRESETS["settings_use"])
    assert (page.values[setting_id("rank")], concepts_of(page)[0]["name"]) == (24, "zog")
    for text, words in (("", "There is no text"), ("{", "not JSON"), ('{"stepps": 1}', "Did you mean steps?")):
        page.values[PRESETS["settings_text"]] = text
        page.press(PRESETS["settings_use"])
        assert words in page.values[NOTICE], text


def test_how_long_is_shown_and_filled_in(page, host, images):
    page.press(LENGTH["refresh"])
    assert "Enter the image folder" in page.values[LENGTH["view"]]
    past_run(host, images, "earlier")
    fill(page, good_config(images, steps=0))
    page.press(LENGTH["refresh"])
    for words in ("600 steps", "about 20 min 00 s", "2 s/step", "zog 1200"):
        assert words in page.values[LENGTH["view"]], words
    for name, steps in (("half", 300), ("double", 1200), ("full", 600)):
        page.press(LENGTH[name])
        assert page.values[setting_id("steps")] == steps
        assert f"{steps} steps" in page.values[LENGTH["view"]]
    page.values[setting_id("batch_size")] = 6
    page.press(LENGTH["refresh"])
    assert "600 steps" in page.values[LENGTH["view"]] and "suggested: 300" in page.values[LENGTH["view"]]
    page.values[setting_id("data_folder")] = "/none<x>"
    page.press(LENGTH["refresh"])
    assert "not known yet" in page.values[LENGTH["view"]] and "<x>" not in page.values[LENGTH["view"]]
    page.press(LENGTH["double"])
    assert "Image folder" in page.values[NOTICE]


def test_settings_that_change_ask_for_the_length(page):
    changes = [event for event in page.events if "pivotalLength.changed" in (event.get("js") or "")]
    watched = {page.name(target[0] if isinstance(target, (list, tuple)) else target)
               for event in changes for target in event["targets"]}  # fmt: skip
    assert {setting_id("data_folder"), setting_id("steps"), page_id("concepts")} <= watched
