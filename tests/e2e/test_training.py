"""Whole runs in a real webui, and what the webui makes of their bundles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pictures import NAMES, draw, settings
from safetensors import safe_open
from server import Webui


def _wait(webui: Webui) -> dict[str, Any]:
    """Status of the run once it is over and the webui has everything back."""
    while (status := webui.get("/pivotal/v1/status"))["is_active"]:
        time.sleep(0.2)
    return status


def _start(webui: Webui, config: dict[str, Any]) -> dict[str, Any]:
    return webui.post("/pivotal/v1/train", config)


def _train(webui: Webui, config: dict[str, Any]) -> dict[str, Any]:
    _start(webui, config)
    status = _wait(webui)
    assert status["state"] == "done", status["message"]
    return status


def _wait_for_step(webui: Webui, step: int) -> None:
    while (status := webui.get("/pivotal/v1/status"))["step"] < step:
        assert status["is_active"], status
        time.sleep(0.1)


def _losses(status: dict[str, Any]) -> list[float]:
    return [point[1] for point in status["losses"]]


def _same(after: dict[str, Any], before: dict[str, Any]) -> None:
    assert {**after, "cached_conds": None} == {**before, "cached_conds": None}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def trained(webui: Webui, data: Path) -> dict[str, Any]:
    """One finished run, with the webui's state and a picture from before and after."""
    picture, before = webui.pixels("a red circle"), webui.post("/pivotal-test/fingerprint")
    status = _train(webui, settings(data, "e2e_bundle"))
    after = webui.post("/pivotal-test/fingerprint")
    again = webui.pixels("a red circle")
    return {**status, "before": before, "after": after, "picture": picture, "again": again}


def test_a_run_leaves_every_weight_and_every_pixel_as_they_were(trained: dict[str, Any]) -> None:
    _same(trained["after"], trained["before"])
    assert trained["again"] == trained["picture"]


def test_the_bundle_is_where_the_webui_finds_it(webui: Webui, trained: dict[str, Any]) -> None:
    path = webui.data / "models" / "Lora" / "e2e_bundle.safetensors"
    assert Path(trained["bundle_path"]) == path
    with safe_open(path, "pt") as file:
        keys = list(file.keys())
    assert {f"bundle_emb.{name}.string_to_param.*" for name in NAMES} <= set(keys)
    assert any(item["name"] == "e2e_bundle" for item in webui.get("/sdapi/v1/loras"))


def test_the_run_folder_has_previews_and_losses(trained: dict[str, Any]) -> None:
    folder = Path(trained["run_folder"])
    samples = sorted(item.name for item in (folder / "samples").glob("*.png"))
    assert samples == [f"step-{step:06d}-{index}.png" for step in (0, 3, 6) for index in (0, 1)]
    assert len(trained["samples"]) == 6
    assert len(trained["losses"]) == 6
    assert len((folder / "loss.csv").read_text().splitlines()) == 7
    assert trained["words"] == f"<lora:e2e_bundle:1> {NAMES[0]}, {NAMES[1]}"
    assert all("learning rate" in text for text in trained["warnings"]), trained["warnings"]


def test_the_lora_and_each_name_matter(webui: Webui, trained: dict[str, Any]) -> None:
    bundle = "<lora:e2e_bundle:1>"
    pictures = {
        "none": webui.pixels("a red circle"),
        "lora": webui.pixels(f"a red circle {bundle}"),
        "first": webui.pixels(f"{NAMES[0]} {bundle}"),
        "second": webui.pixels(f"{NAMES[1]} {bundle}"),
        "first without": webui.pixels(NAMES[0]),
        "second without": webui.pixels(NAMES[1]),
    }
    assert len(set(pictures.values())) == len(pictures)
    assert webui.pixels("a red circle") == pictures["none"]


def test_conds_with_the_bundle_equal_those_with_files(webui: Webui, trained: dict[str, Any]) -> None:
    prompts = [*NAMES, f"{NAMES[0]} and {NAMES[1]}, red background"]
    bundled = [webui.post("/pivotal-test/conds", {"prompt": text, "lora": "e2e_bundle"})["digest"] for text in prompts]
    plain = [webui.post("/pivotal-test/conds", {"prompt": text})["digest"] for text in prompts]
    folder = str(webui.data / "embeddings")
    names = webui.post("/pivotal-test/export_embeddings", {"lora": "e2e_bundle", "folder": folder})
    try:
        assert sorted(names) == sorted(NAMES)
        files = [webui.post("/pivotal-test/conds", {"prompt": text})["digest"] for text in prompts]
    finally:
        webui.post("/pivotal-test/remove_embeddings", {"names": names, "folder": folder})
    assert bundled == files
    assert all(one != other for one, other in zip(bundled, plain, strict=True))


def test_the_webui_applies_the_delta_that_was_trained(webui: Webui, trained: dict[str, Any]) -> None:
    answer = webui.post("/pivotal-test/lora_delta", {"name": "e2e_bundle"})
    assert not answer["lost"]
    assert answer["count"]["unet linear"] > 100
    assert answer["count"]["unet conv"] > 30
    assert max(answer["worst"].values()) <= 1e-5, answer["worst"]


def test_training_the_same_name_again_changes_the_next_picture(webui: Webui, data: Path) -> None:
    prompt = f"{NAMES[0]} <lora:e2e_again:1>"
    _train(webui, settings(data, "e2e_again", sample_every=0))
    first = webui.pixels(prompt)
    assert webui.pixels(prompt) == first
    _train(webui, settings(data, "e2e_again", sample_every=0, seed=99, if_exists="overwrite"))
    assert webui.pixels(prompt) != first


def test_a_lora_used_just_before_does_not_act_in_training(webui: Webui, data: Path) -> None:
    clean = _train(webui, settings(data, "e2e_clean", steps=3, sample_every=0))
    webui.pixels("a red circle <lora:e2e_clean:1>")
    after_lora = _train(webui, settings(data, "e2e_clean2", steps=3, sample_every=0))
    assert _losses(after_lora) == _losses(clean)


def test_previews_do_not_change_what_is_learnt(webui: Webui, data: Path) -> None:
    without = _train(webui, settings(data, "e2e_quiet", steps=3, sample_every=0))
    with_previews = _train(webui, settings(data, "e2e_shown", steps=3, sample_every=1))
    assert _losses(with_previews) == _losses(without)


def test_a_stopped_run_keeps_a_loadable_bundle_and_an_untouched_model(webui: Webui, data: Path) -> None:
    picture, before = webui.pixels("a red circle"), webui.post("/pivotal-test/fingerprint")
    _start(webui, settings(data, "e2e_stopped", steps=500, sample_every=0))
    _wait_for_step(webui, 2)
    webui.post("/pivotal/v1/stop")
    status = _wait(webui)
    assert status["state"] == "stopped"
    assert 2 <= status["step"] < 500
    _same(webui.post("/pivotal-test/fingerprint"), before)
    assert webui.pixels("a red circle") == picture
    assert webui.pixels("a red circle <lora:e2e_stopped:1>") != picture


def test_the_webuis_own_interrupt_finishes_and_keeps(webui: Webui, data: Path) -> None:
    _start(webui, settings(data, "e2e_interrupted", steps=500, sample_every=0))
    _wait_for_step(webui, 1)
    webui.post("/sdapi/v1/interrupt")
    assert _wait(webui)["state"] == "stopped"
    assert (webui.data / "models" / "Lora" / "e2e_interrupted.safetensors").exists()


def test_a_run_that_fails_in_the_middle_of_a_step_leaves_the_model_untouched(webui: Webui, data: Path) -> None:
    picture, before = webui.pixels("a red circle"), webui.post("/pivotal-test/fingerprint")
    config = settings(data, "e2e_broken", gradient_checkpointing=True)
    run = str(webui.data / "runs" / "broken")
    answer = webui.post("/pivotal-test/train_broken", {"config": config, "run": run, "raise_at": 3})
    assert answer == {"error": "deliberate"}
    _same(webui.post("/pivotal-test/fingerprint"), before)
    assert webui.pixels("a red circle") == picture


def test_a_checkpoint_unloaded_in_mid_run_ends_it_with_a_clear_message(webui: Webui, data: Path) -> None:
    _start(webui, settings(data, "e2e_unloaded", steps=500, sample_every=0))
    _wait_for_step(webui, 1)
    webui.post("/pivotal-test/lose_model")
    try:
        status = _wait(webui)
    finally:
        webui.post("/pivotal-test/find_model")
    assert status["state"] == "failed"
    assert "changed its checkpoint" in status["message"]


def test_a_picture_asked_for_during_training_waits_and_comes(webui: Webui, data: Path) -> None:
    expected = webui.pixels("a red circle")
    bundle = webui.data / "models" / "Lora" / "e2e_busy.safetensors"
    _start(webui, settings(data, "e2e_busy", steps=12, sample_every=0))
    _wait_for_step(webui, 1)
    assert not bundle.exists()
    assert webui.pixels("a red circle") == expected
    # It came after the run had given the queue back, that is after the bundle was written.
    assert bundle.exists()
    assert _wait(webui)["state"] == "done"


def test_the_webuis_progress_bar_follows_the_run(webui: Webui, data: Path) -> None:
    task = _start(webui, settings(data, "e2e_progress", steps=8, sample_every=0))["task_id"]
    _wait_for_step(webui, 2)
    progress = webui.post("/internal/progress", {"id_task": task, "live_preview": False})
    assert progress["active"]
    assert 0.2 <= progress["progress"] < 1
    assert progress["textinfo"].startswith("Step ")
    _wait(webui)
    assert webui.post("/internal/progress", {"id_task": task})["completed"]


def test_another_checkpoint_can_be_trained_and_the_selected_one_comes_back(webui: Webui, data: Path) -> None:
    before = webui.post("/pivotal-test/fingerprint")
    status = _train(webui, settings(data, "e2e_other", checkpoint="other", steps=2, sample_every=1))
    with safe_open(status["bundle_path"], "pt") as file:
        assert "other" in str(file.metadata())
    _same(webui.post("/pivotal-test/fingerprint"), before)


def test_bf16_trains_too_and_changes_no_weight(webui: Webui, data: Path) -> None:
    before = webui.post("/pivotal-test/fingerprint")
    full = _train(webui, settings(data, "e2e_fp32", steps=2, sample_every=0))
    status = _train(webui, settings(data, "e2e_bf16", steps=2, sample_every=1, precision="bf16"))
    assert _losses(status) != _losses(full)
    assert _losses(status) == pytest.approx(_losses(full), rel=0.05)
    _same(webui.post("/pivotal-test/fingerprint"), before)


def test_everything_wrong_is_said_at_once(webui: Webui, tmp_path: Path) -> None:
    bad = settings(tmp_path / "nowhere", "bad/name", rank=-1, checkpoint="no such model")
    bad["concepts"] = [{"name": "a.b"}, {"name": "(x)"}]
    status, answer = webui.try_post("/pivotal/v1/train", bad)
    assert status == 422
    for part in ("nowhere", "bad/name", "-1", "a.b", "(x)", "no such model", "random.safetensors"):
        assert part in answer["message"], answer["message"]
    assert not webui.get("/pivotal/v1/status")["is_active"]
    fields = {problem["field"] for problem in answer["problems"]}
    assert {"data_folder", "output_name", "rank", "concepts[0].name", "concepts[1].name", "checkpoint"} <= fields


def test_pictures_without_captions_are_named(webui: Webui, tmp_path: Path) -> None:
    for caption in draw(tmp_path / "bare").glob("*.txt"):
        caption.unlink()
    status, answer = webui.try_post("/pivotal/v1/train", settings(tmp_path / "bare", "e2e_bare"))
    assert status == 422
    assert "No image in" in answer["message"]


def test_a_host_error_inside_a_run_is_told_and_leaves_everything(webui: Webui, data: Path) -> None:
    before = webui.post("/pivotal-test/fingerprint")
    run = str(webui.data / "runs" / "lost")
    config = settings(data, "e2e_lost", checkpoint="no such model")
    answer = webui.post("/pivotal-test/train_broken", {"config": config, "run": run, "raise_at": 0})
    assert answer["kind"] == "HostError"
    assert "no such model" in answer["error"]
    _same(webui.post("/pivotal-test/fingerprint"), before)
