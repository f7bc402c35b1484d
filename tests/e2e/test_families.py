"""SD2 with velocity and SDXL in a real webui: the adapter's numbers, whole runs, bundles in use, switching between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.events import Control, StepDone
from lib_pivotal.core.train.run import Folders
from lib_pivotal.core.train.run import train as run
from tests.e2e.images import NAMES, settings
from tests.e2e.runs import assert_conds_equal_files, assert_same, losses_of, state_of, train
from tests.e2e.server import Webui
from tests.e2e.test_two_hosts import compare_hosts

FAMILIES = ("sd2", "sdxl")
ENCODERS = {"sd1": ["clip_l"], "sd2": ["clip_l"], "sdxl": ["clip_l", "clip_g"]}


def choose(webui: Webui, name: str) -> None:
    """Select a checkpoint, as the page's list does."""
    titles = [item["title"] for item in webui.get("/sdapi/v1/sd-models")]
    title = next(title for title in titles if title.startswith(f"{name}.safetensors"))
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": title})


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, all_families: Webui) -> str:
    """A family whose checkpoint is selected."""
    choose(all_families, request.param)
    return request.param


def test_the_adapter_computes_what_the_webui_computes(all_families: Webui, family: str) -> None:
    answer = all_families.post("/pivotal-test/family_parity")
    assert answer["family"] == family
    assert answer["v"] == (family == "sd2")
    assert answer["encoders"] == ENCODERS[family]
    assert max(answer["texts"].values()) <= 1e-5, answer["texts"]
    assert answer["eps"] <= 1e-5 * max(answer["eps_size"], 1.0)
    assert answer["latent"] <= 1e-5


def test_a_step_reaches_every_layer_that_is_used(all_families: Webui, family: str) -> None:
    before = state_of(all_families)
    answer = all_families.post("/pivotal-test/family_step")
    assert answer["parts"] == sorted([*ENCODERS[family], "unet"])
    # SD2 is read before its encoder's last layer, SDXL before both of them; clip_g's last still makes the pooled vector.
    last = {"sd2": "lora_te_text_model_encoder_layers_9_", "sdxl": "lora_te1_text_model_encoder_layers_2_"}[family]
    assert answer["silent"]
    assert all(key.startswith(last) for key in answer["silent"]), answer["silent"]
    assert answer["checkpointing"] < 1e-6
    assert answer["base_gradients"] == 0
    assert_same(state_of(all_families), before)


def test_previews_know_the_embeddings_of_all_encoders(all_families: Webui, family: str) -> None:
    assert all_families.post("/pivotal-test/family_preview") == {"same": True, "vectors_matter": True}


def test_both_hosts_compute_the_same(all_families: Webui, family: str) -> None:
    assert compare_hosts(all_families)["family"] == family


def test_a_whole_run_and_the_bundle_in_use(all_families: Webui, family: str, data: Path) -> None:
    webui = all_families
    name = f"run_{family}"
    image, before = webui.pixels("a red circle"), state_of(webui)
    status = train(webui, settings(data, name, text_encoder_rank=2, text_encoder_lr=0.01))
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image
    with safe_open(status["bundle_path"], "pt") as file:
        keys, metadata = set(file.keys()), file.metadata()
    ends = ["string_to_param.*"] if family == "sd2" else ENCODERS[family]
    assert {f"bundle_emb.{word}.{end}" for word in NAMES for end in ends} <= keys
    assert metadata["ss_base_model_version"].startswith("sdxl_" if family == "sdxl" else "sd_v2")
    assert ("size_conditioning" in metadata["pivotal_bundle"]) == (family == "sdxl")
    assert metadata["ss_v2"] == str(family == "sd2")
    assert metadata["modelspec.prediction_type"] == ("v" if family == "sd2" else "epsilon")
    bundle = f"<lora:{name}:1>"
    prompts = ["a red circle", f"a red circle {bundle}", NAMES[0], f"{NAMES[0]} {bundle}", f"{NAMES[1]} {bundle}"]
    assert len({webui.pixels(prompt) for prompt in prompts}) == len(prompts)
    assert_conds_equal_files(webui, name, NAMES)
    answer = webui.post("/pivotal-test/lora_delta", {"name": name})
    assert not answer["lost"]
    assert max(answer["worst"].values()) <= 1e-5, answer["worst"]
    assert {kind.split()[0] for kind in answer["count"]} == {"unet", *({"te1", "te2"} if family == "sdxl" else {"te"})}


def test_runs_of_different_families_follow_each_other(all_families: Webui, data: Path) -> None:
    webui = all_families
    losses = []
    for name in ("random", "sdxl", "random", "sd2", "sdxl"):
        choose(webui, name)
        before = state_of(webui)
        status = train(webui, settings(data, f"switch_{name}", steps=2, sample_every=0, if_exists="overwrite"))
        assert_same(state_of(webui), before)
        losses.append((name, losses_of(status)))
    # The same checkpoint gives the same losses, whatever was trained between.
    assert losses[0] == losses[2]
    assert losses[1] == losses[4]


class Losses:
    """Collects the losses of a run."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def handle(self, event: Any) -> None:
        if isinstance(event, StepDone):
            self.found.append(event.loss)


@pytest.mark.parametrize("name", ["random", "sd2", "sdxl"])
def test_both_hosts_have_the_same_losses(all_families: Webui, data: Path, tmp_path: Path, name: str) -> None:
    from lib_pivotal.host.diffusers.model import load_model

    webui = all_families
    choose(webui, name)
    config = settings(data, f"same_{name}", steps=4, sample_every=0)
    status = train(webui, config)
    file = webui.post("/pivotal-test/numbers", {"text": "x"})["file"]
    losses = Losses()
    (tmp_path / "run").mkdir()
    folders = Folders(tmp_path / "run", tmp_path / "bundles", tmp_path / "cache")
    run(from_dict(config), load_model(Path(file), device="cpu"), None, [losses], Control(), folders)
    theirs = losses_of(status)
    assert len(theirs) == 4
    assert losses.found == pytest.approx(theirs, rel=1e-3)


def test_names_survive_everything_that_replaces_the_encoders(all_families: Webui, data: Path) -> None:
    webui = all_families
    choose(webui, "sdxl")
    train(webui, settings(data, "stays", steps=2, sample_every=0))
    prompt = f"{NAMES[0]} <lora:stays:1>"
    wanted = webui.pixels(prompt)
    assert wanted != webui.pixels(f"{NAMES[0]} <lora:stays:1:ti=off>")
    try:
        for limit in (1, 2):
            webui.post("/sdapi/v1/options", {"sd_checkpoints_limit": limit})
            for name in ("random", "sdxl", "sd2", "sdxl"):
                choose(webui, name)
                webui.pixels(prompt)
            assert webui.pixels(prompt) == wanted
    finally:
        webui.post("/sdapi/v1/options", {"sd_checkpoints_limit": 1})
    # The attention option makes the webui wrap the encoders again, in the same conditioner.
    webui.post("/sdapi/v1/options", {"cross_attention_optimization": "Doggettx"})
    try:
        train(webui, settings(data, "later", steps=2, sample_every=0, seed=77))
        for name in ("stays", "later"):
            prompts = (f"{NAMES[0]} <lora:{name}:1>", f"{NAMES[0]} <lora:{name}:1:ti=off>")
            assert webui.pixels(prompts[0]) != webui.pixels(prompts[1]), name
    finally:
        webui.post("/sdapi/v1/options", {"cross_attention_optimization": "Automatic"})
    assert webui.pixels(prompt) == wanted


def test_a_bundle_of_another_family_says_so(all_families: Webui, data: Path) -> None:
    webui = all_families
    choose(webui, "sdxl")
    train(webui, settings(data, "only_sdxl", steps=2, sample_every=0))
    choose(webui, "random")
    # The webui applies the LoRA to the layers that happen to have the same names.
    without = webui.pixels(f"{NAMES[0]} <lora:only_sdxl:1:ti=off>")
    webui.post("/pivotal-test/take")
    assert webui.pixels(f"{NAMES[0]} <lora:only_sdxl:1>") == without
    said = "\n".join(text for texts in webui.post("/pivotal-test/take")["comments"] for text in texts)
    assert NAMES[0] in said
    assert "not used" in said


def test_settings_that_give_poor_results_are_reported(all_families: Webui, family: str) -> None:
    found = all_families.post("/pivotal-test/problems", {"resolution": 64, "clip_skip": 2, "concepts": []})
    assert {item[0] for item in found} >= {"clip_skip"}
    assert all("error" not in item for item in found)
