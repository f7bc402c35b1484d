"""Whole runs on a GPU in every precision: they learn the same as on a CPU, resume, stop and leave nothing behind."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import replace

import pytest
import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.events import Control
from lib_pivotal.core.train.state import load_newest
from tests.gpu.no_waiting import train_without_waiting
from tests.runs.harness import Listener, folders, run
from tests.unit.toy import ToyModel, toy_config, write_images

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class GpuModel(ToyModel):
    """The toy on a GPU."""

    def __init__(self, device: torch.device, precision: str = "fp32") -> None:
        super().__init__()
        self.device, self._type = device, TYPES[precision]
        self.needs_loss_scaling = precision == "fp16"
        self.unet.to(device)
        self.text_encoders[0].table.to(device)
        self.text_encoders[0].layer.to(device)
        self.text_encoders[0].mask = self.text_encoders[0].mask.to(device)

    def autocast(self):
        if self._type == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._type)

    def predict(self, noisy, timesteps, condition):
        return super().predict(noisy, timesteps, condition).to(noisy.dtype)


@pytest.fixture
def data(tmp_path):
    write_images(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-3), ("fp16", 2e-2), ("bf16", 5e-2)])
def test_losses_are_those_of_a_cpu(tmp_path, data, device, precision, tolerance):
    config = toy_config(data, steps=20, text_encoder_rank=2, conv_rank=2)
    _, here = run(config, folders(tmp_path, "cpu"))
    outcome, there = run(config, folders(tmp_path, "gpu"), GpuModel(device, precision))
    assert there.losses == pytest.approx(here.losses, rel=tolerance)
    # What is trained stays in fp32, whatever the forward pass is in.
    state = load_newest(tmp_path / "gpu" / "states")
    for key in ("lora/unet", "lora/clip_l", "table/clip_l"):
        assert state.tensors[key].dtype == torch.float32
        assert state.tensors[key].any()
    bundle = read_bundle(outcome.bundle_path)
    ups = [value for key, value in bundle.lora.items() if key.endswith("lora_up.weight")]
    assert ups and all(torch.isfinite(value).all() and value.any() for value in ups)


@pytest.mark.parametrize("precision", list(TYPES))
def test_a_run_stopped_and_resumed_equals_one_without_a_stop(tmp_path, data, device, precision):
    config = toy_config(data, steps=20, text_encoder_rank=2, lora_start=0.3)
    _, straight = run(config, folders(tmp_path, "whole"), GpuModel(device, precision))
    where, control = folders(tmp_path, "parts"), Control()
    stopped, first = run(config, where, GpuModel(device, precision), Listener(control, 8), control)
    # A stop takes effect up to two steps later, because numbers are read back late.
    assert 8 <= stopped.step <= 10
    _, second = run(config, where, GpuModel(device, precision), resume_from=where.run)
    assert first.losses + second.losses == pytest.approx(straight.losses, rel=1e-3)


def test_a_group_that_waits_for_its_start_does_not_stop_the_others(tmp_path, data, device):
    config = toy_config(data, steps=10, lora_start=0.5, caption_dropout=0.5, name_only=0.0)
    outcome, listener = run(config, folders(tmp_path), GpuModel(device, "fp16"))
    assert outcome.outcome == "done" and len(listener.losses) == 10


@pytest.mark.parametrize("precision", list(TYPES))
def test_no_step_waits_for_the_device(tmp_path, data, device, precision):
    (data / "01.txt").write_text("zog_x, " + "word, " * 60)
    config = toy_config(
        data, batch_size=4, accumulation=2, flip=True, text_encoder_rank=2, embedding_norms="band", tag_dropout=0.5
    )  # fmt: skip
    train_without_waiting(config, GpuModel(device, precision), tmp_path)


def test_recorded_steps_do_not_wait_either(tmp_path, data, device):
    config = toy_config(data, lora_start=0.0, tag_dropout=0.5)
    train_without_waiting(config, GpuModel(device, "fp16"), tmp_path, graphs=True)


def test_model_and_memory_are_left_as_they_were(tmp_path, data, device):
    model = GpuModel(device, "fp16")
    before = model.tensors()
    run(toy_config(data, text_encoder_rank=2), folders(tmp_path, "a"), model)
    gc.collect()
    held = torch.cuda.memory_allocated(device)
    run(toy_config(data, text_encoder_rank=2), folders(tmp_path, "b"), model)
    gc.collect()
    assert torch.cuda.memory_allocated(device) <= held
    after = model.tensors()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())


@pytest.mark.parametrize("precision", list(TYPES))
def test_recorded_steps_learn_what_usual_steps_learn(tmp_path, data, device, precision, caplog):
    config = toy_config(data, steps=30, lora_start=0.3, tag_dropout=0.5)
    plain = replace(config, cuda_graphs=False)
    _, usual = run(plain, folders(tmp_path, "usual"), GpuModel(device, precision))
    with caplog.at_level("INFO", logger="pivotal.train"):
        _, recorded = run(config, folders(tmp_path, "graph"), GpuModel(device, precision))
    assert "recorded as a CUDA graph" in caplog.text
    assert "as usual" not in caplog.text
    assert recorded.losses == pytest.approx(usual.losses, rel=2e-3 if precision == "fp32" else 2e-2)
