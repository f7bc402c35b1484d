"""A bundle that was trained in one webui acts in another one as it does there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.contract.host_tree import find_tree
from tests.e2e.images import NAMES, settings
from tests.e2e.runs import assert_delta_is_ours, train
from tests.e2e.server import Webui, find_python, find_webui, running

PROMPTS = (*NAMES, f"{NAMES[0]} and {NAMES[1]}, red background")


def encodings(webui: Webui, lora: str) -> list[torch.Tensor]:
    """The prompts with the names of a bundle; the LoRA itself has no effect on them."""
    answers = (
        webui.post("/pivotal-test/conds", {"prompt": text, "lora": lora, "with_values": True}) for text in PROMPTS
    )
    return [torch.tensor(answer["values"]) for answer in answers]


def configured_for_a1111(checkpoint: Path, a1111: Path, folder: Path) -> Path:
    """The checkpoint with a configuration for A1111, which needs to know the narrow levels and where the tokenizer is."""
    config: Any = yaml.safe_load((a1111 / "configs" / "v1-inference.yaml").read_text(encoding="utf-8"))
    params = config["model"]["params"]
    shape = params["unet_config"]["params"]
    shape["channel_mult"] = [1] * len(shape["channel_mult"])
    # Host: backend/huggingface, Forge; huggingface_guess, reForge has no tokenizer.
    forge = find_tree("forge")
    assert forge is not None
    source = forge / "backend" / "huggingface" / "runwayml" / "stable-diffusion-v1-5"
    text = shutil.copytree(source / "tokenizer", folder / "text")
    shutil.copy(source / "text_encoder" / "config.json", text)
    params["cond_stage_config"]["params"] = {"version": str(text)}
    path = folder / checkpoint.name
    path.symlink_to(checkpoint.resolve())
    path.with_suffix(".yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def exchange(source: Webui, target: Webui, data: Path, name: str) -> None:
    """Train in one webui, use the bundle in another one, and compare."""
    status = train(source, settings(data, name, steps=4, sample_every=0))
    theirs = encodings(source, name)
    # Forge loads its model for the first image.
    target.pixels("a red circle")
    plain = encodings(target, "")
    shutil.copy(status["bundle_path"], target.data / "models" / "Lora")
    target.post("/sdapi/v1/refresh-loras")
    for found, expected, without in zip(encodings(target, name), theirs, plain, strict=True):
        scale = float(expected.abs().max())
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)
        assert float((found - without).abs().max()) > 0.01 * scale
    assert assert_delta_is_ours(target, name)["unet linear"] > 100
    bundle = f"<lora:{name}:1>"
    prompts = ["a red circle", f"a red circle {bundle}", NAMES[0], *(f"{name} {bundle}" for name in NAMES)]
    assert len({target.pixels(prompt) for prompt in prompts}) == len(prompts)


@pytest.mark.long
@pytest.mark.parametrize("partner", ["a1111", "forge", "reforge"])
def test_bundles_act_alike_in_two_webuis(
    webui: Webui, random_checkpoints: list[Path], data: Path, tmp_path: Path, partner: str
) -> None:
    tree = Path.home() / "stable-diffusion-webui" if partner == "a1111" else find_tree(partner)
    python = find_python(tree) if tree else None
    # A1111's checkpoints here are too small for the others, so it is only ever the partner.
    if webui.kind in ("a1111", partner) or tree is None or python is None or tree == find_webui():
        pytest.skip("needs two of A1111, Forge and reForge, and the suite to run in one of the last two")
    checkpoint = random_checkpoints[0]
    if partner == "a1111":
        checkpoint = configured_for_a1111(checkpoint, tree, tmp_path)
    with running(tree, python, tmp_path / "data", [checkpoint]) as other:
        exchange(other, webui, data, f"from_{partner}")
        exchange(webui, other, data, f"to_{partner}")
