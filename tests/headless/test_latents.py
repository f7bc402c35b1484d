"""Latents of the embedded model, whose VAE returns batches with the channels last (the toy does not)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.demo import assets
from lib_pivotal.host.diffusers import load
from tests.unit.toy import write_images


@pytest.mark.skipif(not assets.BASE_A.exists(), reason="THE SMALL MODEL IS MISSING: nothing was trained.")
def test_a_second_run_uses_the_latents_that_the_first_one_stored(tmp_path: Path, monkeypatch) -> None:
    model = load(assets.materialize(tmp_path / "model").a, device="cpu")
    write_images(tmp_path / "data", 4)
    config = TrainConfig(
        concepts=(Concept("zog_x", init_text="red circle"),),
        data_folder=str(tmp_path / "data"),
        resolution=64,
        steps=2,
        batch_size=2,
        rank=2,
        sample_every=0,
        cache_to_disk=True,
        output_name="zog",
    )
    encode = model.vae.encode
    encoded: list[int] = []
    strides: list[bool] = []

    def watched(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded.append(len(pixels))
        mean, std = encode(pixels)
        strides.append(mean[0].is_contiguous())
        return mean, std

    monkeypatch.setattr(model.vae, "encode", watched)
    losses = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        folders = Folders(run=tmp_path / name, bundles=tmp_path / f"{name}-bundles", cache=tmp_path / "cache")
        train(config, model, None, [], Control(), folders)
        losses.append((tmp_path / name / "loss.csv").read_text(encoding="utf-8").split("\n")[1].split(",")[:2])
    assert encoded == [2, 2]
    assert losses[0] == losses[1]
    assert not all(strides), "this VAE no longer shows what the test is for"
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 4
