"""Our adapter on small models made of Forge's own classes, in Forge's own Python, of every family and kind of storage."""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.contract.host_tree import find_tree
from tests.e2e.server import find_python, find_webui, kind_of

_CHECKS = Path(__file__).with_name("forge_engine_checks.py")
_CASES = ("sd1-fp16", "sdxl-fp8", "sd2-fp32")


def _forge() -> tuple[Path, Path]:
    """Source and interpreter of an installed Forge: ``$PIVOTAL_FORGE``, ``$PIVOTAL_WEBUI``, or the usual folder."""
    chosen = find_webui()
    tree = chosen if chosen and kind_of(chosen) == "forge" else find_tree("forge")
    python = find_python(tree) if tree else None
    if tree is None or python is None:
        message = "NO INSTALLED FORGE FOUND: the adapter was not run on Forge's own classes (set PIVOTAL_FORGE)."
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    return tree, python


@pytest.fixture(scope="module", params=_CASES)
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the checks have found for one family and kind of storage."""
    tree, python = _forge()
    command = [str(python), str(_CHECKS), str(tree), *request.param.split("-")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-4000:]
    return {"case": request.param, **json.loads(result.stdout.splitlines()[-1])}


@pytest.mark.long
def test_our_numbers_are_forges(found: dict[str, Any]) -> None:
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
        # Nothing reads the last layer of SDXL's first encoder: six Linear layers with two matrices each.
        assert found[name]["without"] == (12 if found["family"] == "sdxl" else 0)
        assert found[name]["recomputed"] < 1e-6
        assert found[name]["lean"] == 0
        assert found[name]["keys"] == found[name]["targets"]
    assert found["again"] == found["gradients"]
    assert not found["trainable"] and not found["base gradients"]


@pytest.mark.long
def test_training_has_its_own_attention_and_recomputes_where_weights_are_cast_in_each_call(
    found: dict[str, Any],
) -> None:
    assert (found["attention"], found["attention after"]) == ("attention_pytorch", "attention_basic")
    # On a CPU, Forge computes in fp32.
    assert (found["recomputed blocks"] > 5) == (not found["case"].endswith("fp32"))
    assert not found["live previews"] and found["live previews after"]
    assert 0 < found["last of zero terminal SNR"] < 1e-6


@pytest.mark.long
def test_the_model_is_trained_without_the_last_generations_lora_and_comes_back(found: dict[str, Any]) -> None:
    assert found["merged"]
    assert found["unmerged"]
    assert found["same"]
    assert found["restored"]


@pytest.mark.long
def test_what_cannot_be_trained_is_refused_in_one_sentence(found: dict[str, Any]) -> None:
    words = {
        "inpainting": "is an inpainting model", "edm": "predictions of the kind edm", "nf4": "quantized to nf4",
        "gguf": "quantized to gguf", "Flux": "is a Flux model", "StableDiffusion3": "is a StableDiffusion3 model", "channels": "another image",
    }  # fmt: skip
    if found["family"] == "sdxl":
        words["refiner"] = "is an SDXL refiner"
    if found["case"].endswith("fp8"):
        words["dora"] = "in fp8, from which a DoRA cannot be trained"
    assert set(found["refusals"]) == set(words)
    for name, text in found["refusals"].items():
        assert words[name] in text
    assert "too little free memory for the whole model" in found["swapped"]
    assert "GPU Weights" in found["swapped"]
    # Unloading everything else was enough.
    assert found["swapped once"] == ""
    assert found["same after refusal"]
