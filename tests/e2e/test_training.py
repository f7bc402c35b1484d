"""Whole runs in a real webui, and what the webui does with their bundles."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from tests.e2e.images import NAMES, draw, settings
from tests.e2e.runs import (
    assert_conds_equal_files,
    assert_delta_is_ours,
    assert_same,
    losses_of,
    start,
    state_of,
    train,
    wait,
    wait_for_step,
)
from tests.e2e.server import Webui, find_installed, kind_of, version_of


@pytest.fixture(scope="module")
def trained(webui: Webui, data: Path) -> dict[str, Any]:
    """One finished run, with the webui's state and an image from before and after."""
    image, before = webui.pixels("a red circle"), state_of(webui)
    status = train(webui, settings(data, "e2e_bundle"))
    after = state_of(webui)
    again = webui.pixels("a red circle")
    return {**status, "before": before, "after": after, "image": image, "again": again}


@pytest.fixture(scope="module")
def losses(webui: Webui, data: Path) -> list[float]:
    """The losses of a run of two steps without previews."""
    return losses_of(train(webui, settings(data, "e2e_short", steps=2, sample_every=0)))


def test_a_run_leaves_every_weight_and_every_pixel_as_they_were(trained: dict[str, Any]) -> None:
    assert_same(trained["after"], trained["before"])
    assert trained["again"] == trained["image"]


def test_the_bundle_is_where_the_webui_finds_it(webui: Webui, trained: dict[str, Any]) -> None:
    path = webui.data / "models" / "Lora" / "e2e_bundle.safetensors"
    assert Path(trained["bundle_path"]) == path
    with safe_open(path, "pt") as file:
        keys = list(file.keys())
    assert {f"bundle_emb.{name}.string_to_param.*" for name in NAMES} <= set(keys)
    assert any(item["name"] == "e2e_bundle" for item in webui.get("/sdapi/v1/loras"))


def unexpected(warnings: list[str]) -> list[str]:
    """Those that the settings of such a short run do not explain; models of Forge and reForge are made for 512 px."""
    return [text for text in warnings if "learning rate" not in text and "was made for about 512 px" not in text]


def test_the_run_folder_has_previews_and_losses(trained: dict[str, Any]) -> None:
    folder = Path(trained["run_folder"])
    samples = sorted(item.name for item in (folder / "samples").glob("*.png"))
    assert samples == [f"step-{step:06d}-{index}.png" for step in (0, 3, 6) for index in (0, 1)]
    assert len(trained["samples"]) == 6
    assert len(trained["losses"]) == 6
    assert len((folder / "loss.csv").read_text().splitlines()) == 7
    assert trained["words"] == f"<lora:e2e_bundle:1> {NAMES[0]}, {NAMES[1]}"
    assert not unexpected(trained["warnings"])


def test_the_lora_and_each_name_matter(webui: Webui, trained: dict[str, Any]) -> None:
    bundle = "<lora:e2e_bundle:1>"
    images = {
        "none": webui.pixels("a red circle"),
        "lora": webui.pixels(f"a red circle {bundle}"),
        "first": webui.pixels(f"{NAMES[0]} {bundle}"),
        "second": webui.pixels(f"{NAMES[1]} {bundle}"),
        "first without": webui.pixels(NAMES[0]),
        "second without": webui.pixels(NAMES[1]),
    }
    assert len(set(images.values())) == len(images)
    assert webui.pixels("a red circle") == images["none"]


def test_conds_with_the_bundle_equal_those_with_files(webui: Webui, trained: dict[str, Any]) -> None:
    assert_conds_equal_files(webui, "e2e_bundle", NAMES)


def assert_every_layer_is_ours(webui: Webui, name: str, tolerance: float = 1e-5) -> None:
    """What the webui adds to Linear layers and convolutions is what was trained."""
    kinds = assert_delta_is_ours(webui, name, tolerance)
    assert kinds["unet linear"] > 100
    assert kinds["unet conv"] > 30


def test_the_webui_applies_the_delta_that_was_trained(webui: Webui, trained: dict[str, Any]) -> None:
    assert_every_layer_is_ours(webui, "e2e_bundle")


@pytest.mark.parametrize("kind", ["loha", "lokr", "dora"])
def test_the_webui_applies_what_other_kinds_of_lora_trained(webui: Webui, data: Path, kind: str) -> None:
    if kind == "dora" and kind_of(find_installed()[0]) == "a1111" and version_of(find_installed()[0]) < (1, 9):
        pytest.skip("this webui ignores the magnitudes of a DoRA")
    # Forge loads its model for the first image.
    webui.pixels("a red circle")
    before = state_of(webui)
    # The webui multiplies their matrices in the precision of the file.
    changes = {"lora_kind": kind, "lokr_factor": 4, "save_precision": "fp32"}
    train(webui, settings(data, f"e2e_{kind}", steps=2, sample_every=0, **changes))
    assert_same(state_of(webui), before)
    # A DoRA's change is a small difference of two weights.
    assert_every_layer_is_ours(webui, f"e2e_{kind}", 1e-4 if kind == "dora" else 1e-5)
    prompt = f"{NAMES[0]} <lora:e2e_{kind}:1>"
    assert webui.pixels(prompt) != webui.pixels(NAMES[0])


def test_a_negative_embedding_is_trained_and_works_in_the_negative_prompt(webui: Webui, data: Path) -> None:
    before = state_of(webui)
    config = settings(data, "e2e_negative", steps=2, sample_every=2, gradient_checkpointing=True)
    config["concepts"] = [{**concept, "negative_vectors": 2} for concept in config["concepts"]]
    status = train(webui, config)
    assert_same(state_of(webui), before)
    negatives = [f"neg_{name}" for name in NAMES]
    assert status["words"] == f"<lora:e2e_negative:1> {', '.join(NAMES)}\nNegative prompt: {', '.join(negatives)}"
    preview = Path(status["samples"][0]["path"])
    assert f"Negative prompt: {negatives[0]}" in Image.open(preview).text["parameters"]
    assert_conds_equal_files(webui, "e2e_negative", [*NAMES, *negatives])
    prompt = f"{NAMES[0]} <lora:e2e_negative:1>"
    images = [webui.pixels(prompt, negative_prompt=text) for text in ("", negatives[0], negatives[1])]
    assert len(set(images)) == 3


def test_a_negative_lora_acts_on_the_negative_prompt_alone(webui: Webui, data: Path) -> None:
    # Takes LoRAs of earlier tests out of the weights.
    webui.pixels("a red circle")
    before = state_of(webui)
    # A high rate, so that three steps change a large model, too.
    config = settings(data, "e2e_pair", steps=3, sample_every=3, negative_rank=4, unet_lr=2e-2)
    config["concepts"] = [{**concept, "negative_vectors": 2} for concept in config["concepts"]]
    status = train(webui, config)
    assert "<lora:e2e_pair:1> <lora:e2e_pair-neg:1> " in status["words"]
    assert not unexpected(status["warnings"])

    def image(tag: str, **fields: Any) -> np.ndarray:
        task = {"prompt": f"{NAMES[0]} <lora:e2e_pair:1> {tag}", "negative_prompt": f"neg_{NAMES[0]}", "cfg_scale": 4}
        size = {"seed": 5, "steps": 2, "width": 64, "height": 64}
        answer = webui.post("/sdapi/v1/txt2img", {**task, **size, **fields})
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))), dtype=int)

    def difference(one: np.ndarray, other: np.ndarray) -> int:
        return int(np.abs(one - other).max())

    tag = "<lora:e2e_pair-neg:1>"
    without, with_it = image(""), image(tag)
    assert difference(with_it, without) > 8
    assert difference(image("<lora:e2e_pair-neg:0>"), without) == 0
    if webui.kind != "forge-neo":
        # In two calls instead of one, which cannot be chosen in Forge-Neo.
        webui.post("/sdapi/v1/options", {"batch_cond_uncond": False})
        try:
            assert difference(image(tag), with_it) <= 2
        finally:
            webui.post("/sdapi/v1/options", {"batch_cond_uncond": True})
    # With this guidance the negative prompt does not count.
    assert difference(image("", cfg_scale=1), image(tag, cfg_scale=1)) <= 2
    webui.pixels("a red circle")
    assert_same(state_of(webui), before)


def test_training_the_same_name_again_changes_the_next_image(webui: Webui, data: Path) -> None:
    prompt = f"{NAMES[0]} <lora:e2e_again:1>"
    train(webui, settings(data, "e2e_again", steps=2, sample_every=0))
    first = webui.pixels(prompt)
    assert webui.pixels(prompt) == first
    train(webui, settings(data, "e2e_again", steps=2, sample_every=0, seed=99, if_exists="overwrite"))
    assert webui.pixels(prompt) != first


def test_a_lora_used_just_before_has_no_effect_on_training_and_comes_back(
    webui: Webui, data: Path, losses: list[float]
) -> None:
    plain, prompt = webui.pixels("a red circle"), "a red circle <lora:e2e_short:1>"
    image = webui.pixels(prompt)
    assert losses_of(train(webui, settings(data, "e2e_after_lora", steps=2, sample_every=0))) == losses
    assert webui.pixels(prompt) == image != plain


def test_previews_do_not_change_what_is_learned(webui: Webui, data: Path, losses: list[float]) -> None:
    assert losses_of(train(webui, settings(data, "e2e_shown", steps=2, sample_every=1))) == losses


def test_a_stopped_run_keeps_a_loadable_bundle_and_an_untouched_model(webui: Webui, data: Path) -> None:
    image, before = webui.pixels("a red circle"), state_of(webui)
    start(webui, settings(data, "e2e_stopped", steps=500, sample_every=0))
    wait_for_step(webui, 2)
    webui.post("/pivotal/v1/stop")
    status = wait(webui)
    assert status["state"] == "stopped"
    assert 2 <= status["step"] < 500
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image
    assert webui.pixels("a red circle <lora:e2e_stopped:1>") != image


def test_the_webuis_own_interrupt_finishes_and_keeps(webui: Webui, data: Path) -> None:
    image, before = webui.pixels("a red circle"), state_of(webui)
    start(webui, settings(data, "e2e_interrupted", steps=500, sample_every=0))
    wait_for_step(webui, 1)
    webui.post("/sdapi/v1/interrupt")
    assert wait(webui)["state"] == "stopped"
    assert (webui.data / "models" / "Lora" / "e2e_interrupted.safetensors").exists()
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image


def test_a_run_that_fails_in_the_middle_of_a_step_leaves_the_model_untouched(webui: Webui, data: Path) -> None:
    image, before = webui.pixels("a red circle"), state_of(webui)
    config = settings(data, "e2e_broken", gradient_checkpointing=True)
    run = str(webui.data / "runs" / "broken")
    answer = webui.post("/pivotal-test/train_broken", {"config": config, "run": run, "raise_at": 3})
    assert answer == {"error": "deliberate"}
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image


def test_a_checkpoint_unloaded_in_mid_run_ends_it_with_a_clear_message(webui: Webui, data: Path) -> None:
    image, before = webui.pixels("a red circle"), state_of(webui)
    start(webui, settings(data, "e2e_unloaded", steps=500, sample_every=0))
    wait_for_step(webui, 1)
    webui.post("/pivotal-test/lose_model")
    try:
        status = wait(webui)
    finally:
        webui.post("/pivotal-test/find_model")
    assert status["state"] == "failed"
    assert "changed its checkpoint" in status["message"]
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image


def test_an_image_requested_during_training_waits_and_is_made(webui: Webui, data: Path) -> None:
    expected = webui.pixels("a red circle")
    bundle = webui.data / "models" / "Lora" / "e2e_busy.safetensors"
    start(webui, settings(data, "e2e_busy", steps=12, sample_every=0))
    wait_for_step(webui, 1)
    assert not bundle.exists()
    assert webui.pixels("a red circle") == expected
    # It came after the run had given the queue back, that is after the bundle was written.
    assert bundle.exists()
    assert wait(webui)["state"] == "done"


def test_the_webuis_progress_bar_follows_the_run(webui: Webui, data: Path) -> None:
    task = start(webui, settings(data, "e2e_progress", steps=8, sample_every=0, step_bundles=0))["task_id"]
    wait_for_step(webui, 2)
    progress = webui.post("/internal/progress", {"id_task": task, "live_preview": False})
    assert progress["active"]
    assert 0.2 <= progress["progress"] < 1
    assert progress["textinfo"].startswith("Step ")
    wait(webui)
    assert webui.post("/internal/progress", {"id_task": task})["completed"]


def test_another_checkpoint_can_be_trained_and_the_selected_one_comes_back(webui: Webui, data: Path) -> None:
    image, before = webui.pixels("a red circle"), state_of(webui)
    status = train(webui, settings(data, "e2e_other", checkpoint="other", steps=2, sample_every=1))
    with safe_open(status["bundle_path"], "pt") as file:
        assert "other" in str(file.metadata())
    # Forge changes the type of some weights when a loaded model encodes its first prompt.
    assert webui.pixels("a red circle") == image
    assert_same(state_of(webui), before)


def test_bf16_training_changes_no_weight(webui: Webui, data: Path, losses: list[float]) -> None:
    before = state_of(webui)
    status = train(webui, settings(data, "e2e_bf16", steps=2, sample_every=1, precision="bf16"))
    assert losses_of(status) != losses
    assert losses_of(status) == pytest.approx(losses, rel=0.05)
    assert_same(state_of(webui), before)


def test_all_problems_are_reported_at_once(webui: Webui, tmp_path: Path) -> None:
    bad = settings(tmp_path / "nowhere", "bad/name", rank=-1, checkpoint="no such model")
    bad["concepts"] = [{"name": "a.b"}, {"name": "(x)"}]
    status, answer = webui.try_post("/pivotal/v1/train", bad)
    assert status == 422
    for part in ("nowhere", "bad/name", "-1", "a.b", "(x)", "no such model", "random.safetensors"):
        assert part in answer["message"], answer["message"]
    assert not webui.get("/pivotal/v1/status")["is_active"]
    fields = {problem["field"] for problem in answer["problems"]}
    assert {"data_folder", "output_name", "rank", "concepts[0].name", "concepts[1].name", "checkpoint"} <= fields


def test_settings_that_do_not_fit_the_model_are_refused(webui: Webui, data: Path) -> None:
    config = settings(data, "e2e_unfit", lora_layers="style", noise_offset=0.05)
    # Earlier webuis do not have that schedule.
    has_schedule = version_of(find_installed()[0]) >= (1, 8)
    if has_schedule:
        webui.post("/sdapi/v1/options", {"sd_noise_schedule": "Zero Terminal SNR"})
    try:
        _, answer = webui.try_post("/pivotal/v1/train", config)
    finally:
        if has_schedule:
            webui.post("/sdapi/v1/options", {"sd_noise_schedule": "Default"})
    fields = {problem["field"]: problem["message"] for problem in answer["problems"] if problem["severity"] == "error"}
    assert "SDXL" in fields.pop("lora_layers")
    if has_schedule:
        assert "zero terminal SNR" in fields.pop("noise_offset")
    assert fields == {}


def test_images_without_captions_are_named(webui: Webui, tmp_path: Path) -> None:
    for caption in draw(tmp_path / "bare").glob("*.txt"):
        caption.unlink()
    status, answer = webui.try_post("/pivotal/v1/train", settings(tmp_path / "bare", "e2e_bare"))
    assert status == 422
    assert "No image in" in answer["message"]


def test_a_host_error_inside_a_run_is_reported_and_changes_nothing(webui: Webui, data: Path) -> None:
    before = state_of(webui)
    run = str(webui.data / "runs" / "lost")
    config = settings(data, "e2e_lost", checkpoint="no such model")
    answer = webui.post("/pivotal-test/train_broken", {"config": config, "run": run, "raise_at": 0})
    assert answer["kind"] == "HostError"
    assert "no such model" in answer["error"]
    assert_same(state_of(webui), before)
