"""With the embedded model, passes that are recorded learn what usual ones learn."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.train import recording
from lib_pivotal.demo import assets
from lib_pivotal.demo.characters import write_dataset
from lib_pivotal.host.diffusers.model import load_model
from tests.runs.harness import folders, run
from tests.unit.recorder import Recorder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    write_dataset(folder / "data", "zogling")
    return assets.materialize(folder / "model").a, folder / "data"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_passes_learn_what_usual_ones_learn(base, tmp_path, monkeypatch, precision):
    checkpoint, data = base
    config = TrainConfig(
        concepts=(Concept("zogling", "blue square", vectors=2),), data_folder=str(data), resolution=64, batch_size=2,
        accumulation=2, steps=8, rank=4, conv_rank=4, text_encoder_rank=2, lora_start=0.4, sample_every=0,
        tag_dropout=0.2, precision=precision, output_name="zogling",
    )  # fmt: skip
    _, usual = run(config, folders(tmp_path, "usual"), load_model(checkpoint, precision=precision, device="cpu"))
    recorders: list[Recorder] = []
    monkeypatch.setattr(recording, "can_record", lambda device: True)
    monkeypatch.setattr(recording, "CudaGraphs", lambda *_: recorders.append(Recorder()) or recorders[-1])
    _, found = run(config, folders(tmp_path, "recorded"), load_model(checkpoint, precision=precision, device="cpu"))
    assert len(recorders) == 2 and all(recorder.repeated > recorder.recorded > 0 for recorder in recorders)
    assert found.losses == pytest.approx(usual.losses, rel=1e-5 if precision == "fp32" else 2e-2)
    assert torch.tensor(found.losses).isfinite().all()
