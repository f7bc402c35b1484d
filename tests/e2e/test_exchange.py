"""A bundle trained in reForge works in Forge, and the other way round."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.contract.host_tree import find_tree
from tests.e2e.images import NAMES, settings
from tests.e2e.runs import assert_delta_is_ours, train
from tests.e2e.server import Webui, find_python, running

PROMPTS = (*NAMES, f"{NAMES[0]} and {NAMES[1]}, red background")


def encodings(webui: Webui, lora: str) -> list[torch.Tensor]:
    """The prompts with the names of a bundle; the LoRA itself has no effect on them."""
    answers = (
        webui.post("/pivotal-test/conds", {"prompt": text, "lora": lora, "with_values": True}) for text in PROMPTS
    )
    return [torch.tensor(answer["values"]) for answer in answers]


@pytest.mark.long
def test_a_bundle_from_the_other_webui_works_here(
    webui: Webui, random_checkpoints: list[Path], data: Path, tmp_path: Path
) -> None:
    partner = {"forge": "reforge", "reforge": "forge"}.get(webui.kind)
    tree = find_tree(partner) if partner else None
    python = find_python(tree) if tree else None
    if tree is None or python is None:
        pytest.skip("needs both Forge and reForge")
    with running(tree, python, tmp_path / "data", random_checkpoints[:1]) as other:
        status = train(other, settings(data, "exchanged", steps=4, sample_every=0))
        theirs = encodings(other, "exchanged")
    # Forge loads its model for the first image.
    webui.pixels("a red circle")
    plain = encodings(webui, "")
    shutil.copy(status["bundle_path"], webui.data / "models" / "Lora")
    webui.post("/sdapi/v1/refresh-loras")
    for found, expected, without in zip(encodings(webui, "exchanged"), theirs, plain, strict=True):
        scale = float(expected.abs().max())
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)
        assert float((found - without).abs().max()) > 0.01 * scale
    assert assert_delta_is_ours(webui, "exchanged")["unet linear"] > 100
    bundle = "<lora:exchanged:1>"
    prompts = ["a red circle", f"a red circle {bundle}", NAMES[0], *(f"{name} {bundle}" for name in NAMES)]
    assert len({webui.pixels(prompt) for prompt in prompts}) == len(prompts)
