"""Every port method of the adapter, in a real webui."""

from __future__ import annotations

import pytest

from tests.e2e.runs import assert_same, state_of
from tests.e2e.server import Webui, find_webui, kind_of

OWN_CLASSES = pytest.mark.a1111("compares with A1111's own classes; tests/contract/test_forge_engine.py has Forge's")
NAMES = {"a1111": "A1111 1.", "forge": "Forge 2", "forge-neo": "Forge-Neo ", "reforge": "reForge "}


def test_the_webui_is_recognized(webui: Webui) -> None:
    # Forge loads its model for the first image.
    webui.pixels("a red circle")
    answer = webui.post("/pivotal-test/host")
    assert answer["name"].startswith(NAMES[kind_of(find_webui())])
    assert answer["ids"] == [320, 1125, 539, 320, 2368]
    assert answer["lora_folder"] == str(webui.data / "models" / "Lora")


@OWN_CLASSES
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_our_text_path_is_the_webuis(webui: Webui, clip_skip: int) -> None:
    answer = webui.post("/pivotal-test/encoding", {"clip_skip": clip_skip})
    assert len(answer) == 5
    assert all(value == 0.0 for value in answer.values()), answer


@pytest.mark.parametrize(
    ("caption", "escaped"),
    [
        ("miku_(vocaloid)", r"miku_\(vocaloid\)"),
        ("a ((red)) [hat], (blue:1.3)", r"a \(\(red\)\) \[hat\], \(blue:1.3\)"),
    ],
)
def test_brackets_in_captions_are_characters(webui: Webui, caption: str, escaped: str) -> None:
    answer = webui.post("/pivotal-test/literal_brackets", {"caption": caption, "escaped": escaped})
    assert answer["escaped"] == 0.0
    # Unescaped they are emphasis to the webui, which is another encoding.
    assert answer["plain"] > 0.01


@OWN_CLASSES
def test_training_uses_the_attention_that_saves_memory(webui: Webui) -> None:
    answer = webui.post("/pivotal-test/attention")
    assert answer["inside"] == ["sdp", "scaled_dot_product_attention_forward"]
    assert answer["before"] == answer["after"] != answer["inside"]


@OWN_CLASSES
def test_a_training_step_reaches_every_leaf_and_no_weight(webui: Webui) -> None:
    answer = webui.post("/pivotal-test/training_step")
    assert answer["leaves"] > 300
    assert answer["without_gradient"] == 0
    assert answer["base_gradients"] == 0
    assert answer["base_trainable"] == 0
    assert answer["calls"] == {"BasicTransformerBlock": 2, "ResBlock": 2}, "blocks do not recompute"
    assert answer["checkpointing"] < 1e-6
    assert answer["checkpointing_output"] < 1e-6
    assert answer["keeping_less"] == 0.0
    assert answer["keeping_least"] < 1e-6
    assert answer["eps"] <= 1e-5 * max(answer["eps_size"], 1.0)
    assert answer["latent"] < 1e-5
    assert answer["deviation"] < 1e-5
    assert answer["schedule"] < 1e-6


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_negative_captions_are_recomputed_without_the_lora(webui: Webui, kind: str) -> None:
    answer = webui.post("/pivotal-test/guided_step", {"kind": kind})
    assert min(answer["largest"]) > 0
    assert answer["difference"] < 1e-4


@OWN_CLASSES
def test_lora_keys_lead_back_to_their_layers(webui: Webui) -> None:
    answer = webui.post("/pivotal-test/lora_names")
    assert answer["count"] == answer["unique"]
    assert not answer["wrong"]
    assert answer["roles"]["unet/attention"] == 16 * 8
    assert answer["roles"]["unet/feed_forward"] == 16 * 2
    assert answer["roles"]["unet/projection"] == 16 * 2


def test_a_preview_leaves_nothing_behind(webui: Webui) -> None:
    webui.pixels("a red circle")
    before, history = state_of(webui), (webui.data / "params.txt").read_bytes()
    answer = webui.post("/pivotal-test/preview")
    assert answer["same"]
    assert answer["vectors_matter"]
    assert "Steps: 3" in answer["infotext"]
    assert answer["size"] == [64, 64]
    assert answer["rng_untouched"]
    assert answer["state"] == [3, 10, "Step 3"]
    assert not answer["left_behind"]
    assert answer["inference_tensors"] == 0
    after = state_of(webui)
    assert_same(after, before)
    assert not after["cached_conds"]
    assert (webui.data / "params.txt").read_bytes() == history


def test_interrupt_in_the_webui_means_finish_and_keep(webui: Webui) -> None:
    assert webui.post("/pivotal-test/preview", {"interrupt": True}) == {"none": True, "stop": True}
    assert state_of(webui)["flags"] == [False, False]


def test_an_exchanged_or_unloaded_model_is_noticed(webui: Webui) -> None:
    before = state_of(webui)
    answer = webui.post("/pivotal-test/identity")
    assert "changed its checkpoint" in answer["exchanged"]
    assert "moved off its device" in answer["moved"]
    assert_same(state_of(webui), before)


def test_an_error_in_the_middle_of_a_step_changes_nothing(webui: Webui) -> None:
    image = webui.pixels("a red circle")
    before = state_of(webui)
    assert webui.post("/pivotal-test/raise_mid_step")["error"] == "deliberate"
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image


@OWN_CLASSES
def test_changes_by_other_extensions_are_removed_for_training_and_restored(webui: Webui) -> None:
    webui.post("/pivotal-test/dirty_model")
    try:
        before = state_of(webui)
        assert before["forwards"] == 1
        assert before["checkpoint_flags"] > 0
        assert webui.post("/pivotal-test/training_step")["without_gradient"] == 0
        assert_same(state_of(webui), before)
    finally:
        webui.post("/pivotal-test/clean_model")


@OWN_CLASSES
def test_a_mode_that_changes_weights_is_refused_by_name(webui: Webui) -> None:
    flag = "upcast_sampling"
    webui.post("/pivotal-test/set_flag", {"name": flag, "value": True})
    try:
        found = webui.post("/pivotal-test/problems", {"resolution": 64})
    finally:
        webui.post("/pivotal-test/set_flag", {"name": flag, "value": False})
    assert [item[0] for item in found] == ["webui"]
    assert "--" + flag.replace("_", "-") in found[0][1]


def test_a_missing_checkpoint_is_named_with_the_ones_there_are(webui: Webui) -> None:
    found = webui.post("/pivotal-test/problems", {"checkpoint": "no such model", "precision": "fp16"})
    assert [item[0] for item in found] == ["checkpoint", "precision"]
    assert "no such model" in found[0][1]
    assert "random.safetensors" in found[0][2]
