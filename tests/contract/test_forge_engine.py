"""Our adapter on small models made of Forge's and Forge-Neo's own classes, in their own Python.

The cases have every family and kind of storage, and SD1 is trained with clip skip 2. With bf16, the UNet computes in it
too.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.host_tree import require_installed

_CHECKS = Path(__file__).with_name("forge_engine_checks.py")
_CASES = {
    "forge": ("sd1-fp16", "sd1-bf16", "sdxl-fp8", "sd2-fp32"),
    # It has no SD2.
    "forge-neo": ("sd1-fp16", "sd1-bf16", "sdxl-fp8", "sdxl-fp32"),
}


@pytest.fixture(scope="module", params=[(kind, case) for kind, cases in _CASES.items() for case in cases], ids="-".join)
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the checks have found for one webui, family and kind of storage."""
    kind, case = request.param
    tree, python = require_installed(kind)
    command = [str(python), str(_CHECKS), str(tree), *case.split("-")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-4000:]
    return {"kind": kind, "case": case, **json.loads(result.stdout.splitlines()[-1])}


@pytest.mark.long
def test_our_numbers_are_the_webuis(found: dict[str, Any]) -> None:
    assert found["family"] == found["case"].split("-")[0]
    assert found["v"] == (found["family"] == "sd2")
    assert found["resolution"] == {"sd1": 512, "sd2": 768, "sdxl": 1024}[found["family"]]
    compared = found["compared"]
    exact = {name: value for name, value in compared.items() if name.startswith(("text", "vector"))}
    assert exact and not any(exact.values()), exact
    assert compared["prediction"] < 1e-4
    assert compared["latent"] < 1e-5
    assert found["schedule"] < 1e-6


@pytest.mark.long
def test_every_trained_tensor_has_a_gradient_and_no_weight_has_one(found: dict[str, Any]) -> None:
    for name in ("gradients", "again"):
        assert found[name]["leaves"] > 100
        # Nothing reads the last layer of SDXL's first encoder, nor with clip skip 2 that of SD1's: six Linear layers
        # with two matrices each.
        assert found[name]["without"] == (0 if found["family"] == "sd2" else 12)
        assert found[name]["recomputed"] < 1e-6
        assert found[name]["lean"] == 0
        assert found[name]["joined"] < (1e-3 if found["case"].endswith("bf16") else 1e-6)
        assert found[name]["keys"] == found[name]["targets"]
    assert found["again"] == found["gradients"]
    assert not found["trainable"] and not found["base gradients"]


@pytest.mark.long
def test_training_has_its_own_attention_and_recomputes_where_weights_are_cast_in_each_call(
    found: dict[str, Any],
) -> None:
    assert (found["attention"], found["attention after"]) == ("attention_pytorch", "attention_basic")
    # With bf16 the UNet casts nothing, but the text encoder does.
    expected = {"fp32": 0, "bf16": 3}.get(found["case"].split("-")[1])
    assert found["recomputed blocks"] > 5 if expected is None else found["recomputed blocks"] == expected
    assert not found["live previews"] and found["live previews after"]
    assert 0 < found["last of zero terminal SNR"] < 1e-6


@pytest.mark.long
def test_the_model_is_trained_without_the_last_generations_lora_and_comes_back(found: dict[str, Any]) -> None:
    assert found["merged"]
    assert found["unmerged"]
    assert found["same"]
    assert found["restored"]


@pytest.mark.long
@pytest.mark.parametrize("way", ["merged", "computed", "swapped"])
def test_nothing_is_left_of_a_lora_however_it_was_applied(found: dict[str, Any], way: str) -> None:
    """Merged, computed in every step, or with weights in main memory; the webui's own numbers show what is left."""
    lora = found["loras"][way]
    assert all(change > 1e-4 for change in lora["changes"])
    assert not any(lora["left"])
    assert lora["same"]
    assert (lora["swapped"][0] > 100) == (way == "swapped")
    assert lora["swapped"][1] == 0


@pytest.mark.long
def test_weights_that_the_webui_has_moved_to_main_memory_are_loaded_again(found: dict[str, Any]) -> None:
    """As after a preview that needed the memory; gradients are compared by another test."""
    swapped, swapped_after = found["partly unloaded"]
    assert swapped > 20
    assert swapped_after == 0
    assert "too little free memory for the whole model" in found["unloaded for good"]


@pytest.mark.long
def test_what_cannot_be_trained_is_refused_in_one_sentence(found: dict[str, Any]) -> None:
    is_neo = found["kind"] == "forge-neo"
    words = {
        "inpainting": "is an inpainting model", "nf4": "quantized to nf4",
        "prediction": f"predictions of the kind {'const' if is_neo else 'edm'}",
        "gguf": "quantized to gguf", "Flux": "is a Flux model", "StableDiffusion3": "is a StableDiffusion3 model", "channels": "another image",
        "scaled": "in fp8 with a scale for each layer",
    }  # fmt: skip
    if found["family"] == "sdxl":
        words["refiner"] = "is an SDXL refiner"
    if found["case"].endswith("fp8"):
        words["dora"] = "in fp8, from which a DoRA cannot be trained"
    if is_neo:
        words |= {"fast fp8": "with ForgeOperationsFP8, which has no gradients", "nunchaku": "with Nunchaku"}
    if is_neo and found["family"] == "sdxl":
        words["mugen"] = "is an SDXL model with 32 latent channels"
    assert set(found["refusals"]) == set(words)
    for name, text in found["refusals"].items():
        assert words[name] in text
    families = "SD1 and SDXL" if is_neo else "SD1, SD2 and SDXL"
    assert found["refusals"]["Flux"].endswith(f" {families} checkpoints can be trained; select one of them.")
    remedy = (
        "Close other programs that use the GPU." if is_neo else "Move GPU Weights at the top of the page to the right"
    )
    assert found["swapped"] == found["unloaded for good"]
    assert f"too little free memory for the whole model, and training cannot swap weights. {remedy}" in found["swapped"]
    # Unloading everything else was enough.
    assert found["swapped once"] == ""
    assert found["same after refusal"]


@pytest.mark.long
def test_settings_that_do_not_fit_the_loaded_model_are_refused_with_the_remedy(found: dict[str, Any]) -> None:
    refused = found["settings"]
    assert refused["webui"].startswith("Diffusion in Low Bits is set to bnb-nf4,")
    assert refused["precision"] == "fp16 is not possible on cpu. Choose auto."
    assert refused["two devices"].startswith("The webui runs the text encoder on cpu and the UNet on meta.")
    # Where it casts the weights in each call, it can cast them to fp32 too.
    is_half = found["case"].endswith("bf16")
    assert ("fp32" in refused) == is_half
    if is_half:
        assert refused["fp32"].startswith("The webui has loaded the model in bf16, so it cannot run in fp32.")
