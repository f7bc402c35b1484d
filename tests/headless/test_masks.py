"""Masks on the embedded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.demo import assets
from lib_pivotal.host.diffusers import load
from tests.unit.toy import write_images


@pytest.mark.skipif(not assets.BASE_A.exists(), reason="THE SMALL MODEL IS MISSING: nothing was trained.")
def test_white_masks_give_bit_for_bit_what_no_masks_give_and_others_do_not(tmp_path: Path) -> None:
    checkpoint = assets.materialize(tmp_path / "model").a
    write_images(tmp_path / "data", 4)
    plain = TrainConfig(
        concepts=(Concept("zog_x", init_text="red circle"),),
        data_folder=str(tmp_path / "data"),
        resolution=64,
        steps=2,
        batch_size=2,
        rank=2,
        lora_start=0.0,
        warmup=0.0,
        sample_every=0,
        save_precision="fp32",
        output_name="zog",
    )
    bundles = {}
    for name, grays in (("none", ()), ("white", (255, 255)), ("half", (255, 0))):
        if grays:
            write_masks(tmp_path / "data", *grays)
        (tmp_path / name).mkdir()
        folders = Folders(run=tmp_path / name, bundles=tmp_path / f"{name}-bundles", cache=tmp_path / "cache")
        config = replace(plain, masks="masklabel" if grays else "none")
        outcome = train(config, load(checkpoint, device="cpu"), None, [], Control(), folders)
        assert outcome.bundle_path is not None
        bundles[name] = load_file(outcome.bundle_path)
    assert all(torch.equal(value, bundles["white"][key]) for key, value in bundles["none"].items())
    assert not all(torch.equal(value, bundles["half"][key]) for key, value in bundles["none"].items())


def write_masks(folder: Path, left: int, right: int) -> None:
    for path in sorted(folder.glob("??.png")):
        mask = Image.new("L", Image.open(path).size, left)
        mask.paste(right, (mask.width // 2, 0, mask.width, mask.height))
        mask.save(folder / f"{path.stem}-masklabel.png")
