"""Bundles that were trained apart, brought together in a real webui: fused, and a name added to one of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.images import CONCEPTS, NAMES, draw, settings
from tests.e2e.runs import assert_conds_equal_files, assert_delta_is_ours, assert_same, state_of, train
from tests.e2e.server import Webui

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The images of each name in a folder of its own."""
    folders = []
    for name in NAMES:
        folders.append(draw(tmp_path_factory.mktemp(name)))
        for other in set(NAMES) - {name}:
            for path in folders[-1].glob(f"{other}_*"):
                path.unlink()
    return folders


def settings_of(folders: list[Path], index: int, output_name: str, **changes: Any) -> dict[str, Any]:
    """A short run with one of the names; fusing convolutions as wide as Forge's takes minutes on a CPU."""
    config = settings(folders[index], output_name, steps=2, sample_every=0, conv_rank=0, **changes)
    return {**config, "concepts": [CONCEPTS[index]]}


@pytest.fixture(scope="module")
def apart(webui: Webui, folders: list[Path]) -> list[Path]:
    """A bundle of each name."""
    # Forge loads its model for the first image.
    webui.pixels("a red circle")
    runs = [train(webui, settings_of(folders, index, f"apart_{name}")) for index, name in enumerate(NAMES)]
    return [Path(run["bundle_path"]) for run in runs]


def fused(webui: Webui, apart: list[Path], data: Path) -> dict[str, Any]:
    """The status after the bundles have been fused."""
    choices = {"bundles": [path.stem for path in apart], "name": "friends"}
    if webui.kind != "a1111":
        # Its models are made for 512 px, and samples of that size take many minutes on a CPU.
        choices["data_folder"] = str(data)
    webui.post("/pivotal/v1/fuse", choices)
    while (status := webui.get("/pivotal/v1/fuse"))["is_active"]:
        time.sleep(0.2)
    assert status["state"] == "done", status
    return status


def test_fused_bundles_act_as_one_and_the_model_is_untouched(webui: Webui, apart: list[Path], data: Path) -> None:
    image, before = webui.pixels("a red circle"), state_of(webui)
    status = fused(webui, apart, data)
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image
    assert Path(status["path"]).parent == webui.data / "models" / "Lora"
    assert {item["bundle"] for item in status["report"]} == {path.stem for path in apart}
    assert_conds_equal_files(webui, "friends", NAMES)
    assert assert_delta_is_ours(webui, "friends")["unet linear"] > 100
    bundle = "<lora:friends:1>"
    prompts = ["a red circle", f"a red circle {bundle}", NAMES[0], *(f"{name} {bundle}" for name in NAMES)]
    assert len({webui.pixels(prompt) for prompt in prompts}) == len(prompts)


def test_a_name_added_to_a_bundle_leaves_the_old_name_as_it_was(
    webui: Webui, folders: list[Path], apart: list[Path]
) -> None:
    # A1111 leaves a LoRA in the weights until the next image.
    image, before = webui.pixels("a red circle"), state_of(webui)
    train(webui, settings_of(folders, 1, "added", start_from=str(apart[0]), keep_names=1.0))
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image
    assert_conds_equal_files(webui, "added", NAMES)
    assert_delta_is_ours(webui, "added")
    old = [webui.post("/pivotal-test/conds", {"prompt": NAMES[0], "lora": name}) for name in ("added", apart[0].stem)]
    assert old[0]["digest"] == old[1]["digest"]
