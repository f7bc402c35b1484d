"""SD2 with velocity and SDXL in a real webui: the adapter's numbers, whole runs, bundles in use, switching between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.e2e.images import NAMES, settings
from tests.e2e.runs import (
    assert_conds_equal_files,
    assert_delta_is_ours,
    assert_fp8_changes_little,
    assert_recorded_passes_learn_the_same,
    assert_same,
    losses_of,
    state_of,
    train,
)
from tests.e2e.server import Webui
from tests.e2e.test_two_hosts import compare_hosts, compare_losses

pytestmark = pytest.mark.long
OWN_CLASSES = pytest.mark.a1111("compares with A1111's own classes; tests/contract/test_forge_engine.py has Forge's")

FAMILIES = ("sd2", "sdxl")
ENCODERS = {"sd1": ["clip_l"], "sd2": ["clip_l"], "sdxl": ["clip_l", "clip_g"]}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, server: Webui) -> str:
    """A family whose checkpoint is selected."""
    _require_loadable(server, request.param)
    server.choose(request.param)
    return request.param


def _require_loadable(server: Webui, family: str) -> None:
    if family == "sd2" and server.kind == "forge-neo":
        pytest.skip("Forge-Neo cannot load SD2")


@OWN_CLASSES
def test_the_adapter_computes_what_the_webui_computes(server: Webui, family: str) -> None:
    answer = server.post("/pivotal-test/family_parity")
    assert answer["family"] == family
    assert answer["v"] == (family == "sd2")
    assert answer["encoders"] == ENCODERS[family]
    assert max(answer["texts"].values()) <= 1e-5, answer["texts"]
    assert answer["eps"] <= 1e-5 * max(answer["eps_size"], 1.0)
    assert answer["latent"] <= 1e-5


@OWN_CLASSES
def test_a_step_reaches_every_layer_that_is_used(server: Webui, family: str) -> None:
    before = state_of(server)
    answer = server.post("/pivotal-test/family_step")
    assert answer["parts"] == sorted([*ENCODERS[family], "unet"])
    # SD2 is read before its encoder's last layer, SDXL before both of them; clip_g's last still makes the pooled vector.
    last = {"sd2": "lora_te_text_model_encoder_layers_9_", "sdxl": "lora_te1_text_model_encoder_layers_2_"}[family]
    assert answer["silent"]
    assert all(key.startswith(last) for key in answer["silent"]), answer["silent"]
    assert answer["checkpointing"] < 1e-6
    assert answer["base_gradients"] == 0
    assert_same(state_of(server), before)


def test_previews_know_the_embeddings_of_all_encoders(server: Webui, family: str) -> None:
    assert server.post("/pivotal-test/family_preview") == {"same": True, "vectors_matter": True}


def test_both_hosts_compute_the_same(server: Webui, family: str) -> None:
    assert compare_hosts(server)["family"] == family


def test_a_whole_run_and_the_bundle_in_use(server: Webui, family: str, data: Path) -> None:
    name = f"run_{family}"
    image, before = server.pixels("a red circle"), state_of(server)
    # Forge rounds encoders to fp16, and only a large change stands out from that.
    status = train(server, settings(data, name, steps=3, text_encoder_lr=0.05))
    assert_same(state_of(server), before)
    assert server.pixels("a red circle") == image
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
    assert len({server.pixels(prompt) for prompt in prompts}) == len(prompts)
    assert_conds_equal_files(server, name, NAMES)
    kinds = assert_delta_is_ours(server, name)
    assert {kind.split()[0] for kind in kinds} == {"unet", *({"te1", "te2"} if family == "sdxl" else {"te"})}


def test_a_model_in_eight_bits_learns_what_it_learns_without(
    server: Webui, family: str, store: Callable[[bool], None], data: Path
) -> None:
    if server.kind == "a1111":
        pytest.skip("on a CPU A1111 makes no image with OpenCLIP in fp8: its attention mask stays fp32")
    assert_fp8_changes_little(server, store, data, f"fp8_{family}", steps=2, sample_every=2)


def test_runs_of_different_families_follow_each_other(server: Webui, data: Path) -> None:
    losses = []
    between = ("sdxl",) if server.kind == "forge-neo" else ("sdxl", "sd2")
    for name in ("random", *between, "random"):
        server.choose(name)
        # Forge loads its model for the first image.
        server.pixels("a red circle")
        before = state_of(server)
        status = train(server, settings(data, f"switch_{name}", steps=2, sample_every=0, if_exists="overwrite"))
        assert_same(state_of(server), before)
        losses.append((name, losses_of(status)))
    # The same checkpoint gives the same losses, whatever was trained between.
    assert losses[-1] == losses[0]
    server.choose("sdxl")
    prompt = f"{NAMES[0]} <lora:switch_sdxl:1>"
    assert server.pixels(prompt) != server.pixels(prompt.replace(":1>", ":1:ti=off>"))


@pytest.mark.parametrize("name", FAMILIES)
def test_both_hosts_have_the_same_losses(server: Webui, data: Path, tmp_path: Path, name: str) -> None:
    _require_loadable(server, name)
    server.choose(name)
    compare_losses(server, data, tmp_path, name)


@pytest.mark.parametrize("name", FAMILIES)
def test_recorded_passes_learn_the_same(server: Webui, data: Path, name: str) -> None:
    _require_loadable(server, name)
    server.choose(name)
    assert_recorded_passes_learn_the_same(server, data, name)


@pytest.mark.a1111("Forge keeps one model, and wraps its encoders only once")
def test_names_survive_everything_that_replaces_the_encoders(server: Webui, data: Path) -> None:
    server.choose("sdxl")
    train(server, settings(data, "stays", steps=2, sample_every=0))
    prompt = f"{NAMES[0]} <lora:stays:1>"
    wanted = server.pixels(prompt)
    assert wanted != server.pixels(f"{NAMES[0]} <lora:stays:1:ti=off>")
    try:
        for limit, names in ((1, ("sd2", "sdxl")), (2, ("random", "sdxl", "sd2", "sdxl"))):
            server.post("/sdapi/v1/options", {"sd_checkpoints_limit": limit})
            for name in names:
                server.choose(name)
                server.pixels(prompt)
            assert server.pixels(prompt) == wanted
    finally:
        server.post("/sdapi/v1/options", {"sd_checkpoints_limit": 1})
    # The attention option makes the webui wrap the encoders again, in the same conditioner.
    server.post("/sdapi/v1/options", {"cross_attention_optimization": "Doggettx"})
    try:
        train(server, settings(data, "later", steps=2, sample_every=0, seed=77))
        for name in ("stays", "later"):
            prompts = (f"{NAMES[0]} <lora:{name}:1>", f"{NAMES[0]} <lora:{name}:1:ti=off>")
            assert server.pixels(prompts[0]) != server.pixels(prompts[1]), name
    finally:
        server.post("/sdapi/v1/options", {"cross_attention_optimization": "Automatic"})
    assert server.pixels(prompt) == wanted


def test_a_bundle_of_another_family_says_so(server: Webui, data: Path) -> None:
    server.choose("sdxl")
    train(server, settings(data, "only_sdxl", steps=2, sample_every=0))
    server.choose("random")
    # The webui applies the LoRA to the layers that happen to have the same names.
    without = server.pixels(f"{NAMES[0]} <lora:only_sdxl:1:ti=off>")
    server.post("/pivotal-test/take")
    assert server.pixels(f"{NAMES[0]} <lora:only_sdxl:1>") == without
    said = "\n".join(text for texts in server.post("/pivotal-test/take")["comments"] for text in texts)
    assert NAMES[0] in said
    assert "not used" in said


def test_settings_that_give_poor_results_are_reported(server: Webui, family: str) -> None:
    # Forge loads its model for the first image.
    server.pixels("a red circle")
    found = server.post("/pivotal-test/problems", {"resolution": 64, "clip_skip": 2, "concepts": []})
    assert {item[0] for item in found} >= {"clip_skip"}
    assert all("error" not in item for item in found)
