"""Steps that run as recorded graphs give what usual steps give, and fall back to those where anything is wrong.

The recorder here repeats the recorded work in Python, on the same tensors, as a graph repeats it on a GPU.
"""

from __future__ import annotations

import logging

import pytest
import torch

from lib_pivotal.core.events import Control
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train import setup as train_setup
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.setup import Setup, prepare
from lib_pivotal.core.train.step_graphs import StepGraphs
from tests.unit.toy import ToyModel, toy_config, write_images


class Recorder:
    """Counts recordings and repetitions."""

    def __init__(self, *, fails: bool = False, forgets: bool = False) -> None:
        self.fails, self.forgets = fails, forgets
        self.recorded = self.repeated = 0

    def warm_up(self, work):
        return work()

    def record(self, work):
        self.recorded += 1
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = work()

        def repeat() -> None:
            self.repeated += 1
            if not self.forgets:
                result.copy_(work())

        return repeat, result


def prepared(tmp_path, **changes) -> Setup:
    if not (tmp_path / "data").exists():
        write_images(tmp_path / "data")
    return prepare(
        toy_config(tmp_path / "data", steps=14, **changes),
        ToyModel(),
        cache=tmp_path / "cache",
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )


def trained(setup: Setup, recorder: Recorder | None, steps: int = 14) -> list[torch.Tensor]:
    """Everything that is trained, after some steps."""
    if recorder is not None:
        conditioner = setup.predict._conditioner
        setup.graphs = StepGraphs(setup.model, conditioner, setup.objective, setup.optimizer, setup.adapters, recorder)
    loop = Loop(setup, None, lambda _: None, Control(), SingleProcess())
    with setup.attached():
        for step in range(steps):
            loop.train_step(step)
    values = [part.flat.values.detach().clone() for part in setup.adapters]
    return values + [table.weight.detach().clone() for table in setup.tables.values()]


SETTINGS = {
    "plain": {},
    "accumulated, with a text encoder's LoRA": {"accumulation": 2, "text_encoder_rank": 2},
    "phases": {"lora_start": 0.4},
    "saving": {"memory": "save"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_recorded_steps_train_the_same(tmp_path, name):
    recorder = Recorder()
    usual = trained(prepared(tmp_path, **SETTINGS[name]), None)
    recorded = trained(prepared(tmp_path, **SETTINGS[name]), recorder)
    assert recorder.repeated > recorder.recorded > 0
    for one, other in zip(usual, recorded, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fault", ["fails", "forgets"])
def test_where_recording_goes_wrong_steps_run_as_usual(tmp_path, caplog, fault):
    recorder = Recorder(**{fault: True})
    usual = trained(prepared(tmp_path), None)
    with caplog.at_level(logging.WARNING, logger="pivotal.train"):
        found = trained(prepared(tmp_path), recorder)
    assert recorder.recorded == 1
    assert "as usual" in caplog.text
    for one, other in zip(usual, found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_graph_is_not_used_after_the_weights_have_moved(tmp_path):
    recorder = Recorder()
    setup = prepared(tmp_path)
    trained(setup, recorder, 8)
    repeated = recorder.repeated
    for parameter in setup.model.unet.parameters():
        parameter.data = parameter.data.clone()
    loop = Loop(setup, None, lambda _: None, Control(), SingleProcess())
    with setup.attached():
        loop.train_step(8)
    # The new recording is only compared with a usual step.
    assert recorder.repeated <= repeated + 1
    assert recorder.recorded >= 2


def test_graphs_are_made_only_if_asked_for_and_only_with_cuda(tmp_path, monkeypatch):
    monkeypatch.setattr(train_setup, "CudaGraphs", Recorder)
    assert prepared(tmp_path, cuda_graphs=True).graphs is None
    monkeypatch.setattr(train_setup, "uses_graphs", lambda config, device: config.cuda_graphs)
    assert prepared(tmp_path).graphs is None
    assert isinstance(prepared(tmp_path, cuda_graphs=True).graphs, StepGraphs)
