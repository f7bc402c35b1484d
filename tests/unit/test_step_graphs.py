"""Steps that run as recorded graphs give what usual steps give, and fall back to those where anything is wrong."""

from __future__ import annotations

import logging
import types
from dataclasses import replace

import pytest
import torch

from lib_pivotal.core.events import Control
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train import cuda_graph, memory, recording
from lib_pivotal.core.train.cuda_graph import tolerance_for
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.setup import Setup, prepare
from lib_pivotal.core.train.step_graphs import StepGraphs
from tests.unit.recorder import Recorder
from tests.unit.toy import ToyModel, toy_config, write_images


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


def with_recorder(setup: Setup, recorder: Recorder | None) -> Loop:
    if recorder is not None:
        conditioner = setup.predict._conditioner
        setup.graphs = StepGraphs(setup.model, conditioner, setup.objective, setup.optimizer, setup.adapters, recorder)
        setup.recorded = [setup.graphs]
    return Loop(setup, None, lambda _: None, Control(), SingleProcess())


def trained(setup: Setup, recorder: Recorder | None, steps: int = 14) -> list[torch.Tensor]:
    """Everything that is trained, after some steps."""
    loop = with_recorder(setup, recorder)
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
    setup = prepared(tmp_path)
    with caplog.at_level(logging.WARNING, logger="pivotal.train"):
        found = trained(setup, recorder)
    assert recorder.recorded == 1
    assert "as usual" in caplog.text
    assert not setup.graphs._graphs
    for one, other in zip(usual, found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def moved_in_place(unet) -> None:
    for parameter in unet.parameters():
        parameter.data = parameter.data.clone()


def replaced(unet) -> None:
    """As webuis do that load a model while gradients are impossible."""
    for module in unet.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(parameter.detach().clone(), requires_grad=False)


@pytest.mark.parametrize("move", [moved_in_place, replaced])
def test_a_graph_is_not_used_after_the_weights_have_moved(tmp_path, move):
    recorder = Recorder()
    setup = prepared(tmp_path)
    loop = with_recorder(setup, recorder)
    with setup.attached():
        for step in range(8):
            loop.train_step(step)
        for time in (1, 2):
            recorded, repeated = recorder.recorded, recorder.repeated
            move(setup.model.unet)
            loop.train_step(7 + time)
            # The new recording is only compared with a usual step.
            assert recorder.repeated == repeated + 1
            assert recorder.recorded == recorded + 1
            assert recorder.cleared == time, "nothing can be recorded into the memory of the old graphs"


def test_the_memory_of_graphs_is_given_back_at_the_end(tmp_path):
    recorder = Recorder()
    setup = prepared(tmp_path)
    trained(setup, recorder, 5)
    assert recorder.recorded and recorder.cleared == 1
    assert not setup.graphs._graphs


def test_graphs_of_an_earlier_phase_keep_no_memory(tmp_path):
    recorder = Recorder()
    setup = prepared(tmp_path, lora_start=0.5)
    loop = with_recorder(setup, recorder)
    with setup.attached():
        for step in range(14):
            loop.train_step(step)
            if step == 6:
                assert recorder.recorded == 1 and recorder.cleared == 0
            if step == 7:
                assert recorder.cleared == 1
    assert recorder.recorded > 1


def test_without_room_no_more_graphs_are_made_and_those_there_are_stay(tmp_path):
    recorder = Recorder()
    recorder.room = False
    usual = trained(prepared(tmp_path), None, 6)
    found = trained(prepared(tmp_path), recorder, 6)
    assert recorder.recorded == 0 and recorder.asked == 1, "asking empties torch's cache"
    for one, other in zip(usual, found, strict=True):
        assert torch.equal(one, other)


def test_previews_get_the_memory_of_graphs_only_if_they_need_it(tmp_path):
    recorder = Recorder()
    setup = prepared(tmp_path)
    loop = with_recorder(setup, recorder)
    with setup.attached():
        for step in range(5):
            loop.train_step(step)
        output = loop._output = types.SimpleNamespace(make_samples=lambda step: seen.append(recorder.cleared))
        seen: list[int] = []
        loop._make_samples()
        recorder.room = False
        loop._make_samples()
        loop._make_samples()
    assert seen == [0, 1, 1] and output is not None


@pytest.mark.parametrize("when", ["recording", "a usual step next to graphs"])
def test_where_graphs_leave_too_little_memory_steps_run_as_usual(tmp_path, caplog, monkeypatch, when):
    """The step that found out is repeated without graphs, and counts once."""
    recorder = Recorder()
    usual = trained(prepared(tmp_path, batch_size=2, accumulation=2), None)
    setup = prepared(tmp_path, batch_size=2, accumulation=2)
    loop = with_recorder(setup, recorder)
    compute, errors = StepGraphs._compute, []

    def short(self, inputs):
        loss = compute(self, inputs)
        is_due = step == 4 if when != "recording" else recorder.asked == 1
        if is_due and not errors:
            errors.append(True)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return loss

    monkeypatch.setattr(StepGraphs, "_compute", short)
    if when != "recording":
        # A batch of a kind that has no graph.
        monkeypatch.setattr(
            "lib_pivotal.core.train.step_graphs._Graph.replay", lambda self, inputs: short(graphs, inputs)
        )
    graphs = setup.graphs
    with setup.attached(), caplog.at_level(logging.WARNING, logger="pivotal.train"):
        for step in range(14):
            if when != "recording" and step == 4:
                made = graphs._graphs._made
                graphs._graphs._made = {"of another kind": next(iter(made.values()))}
                graphs._graphs._may_record = False
            loop.train_step(step)
    assert errors and "too little memory" in caplog.text
    assert not graphs._graphs.is_usable
    found = [part.flat.values.detach() for part in setup.adapters]
    found += [table.weight.detach() for table in setup.tables.values()]
    for one, other in zip(usual, found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_bf16_may_differ_more_than_fp16():
    assert tolerance_for(torch.float32) == 1e-2 <= tolerance_for(torch.float16) < 2e-2 < tolerance_for(torch.bfloat16)


def made(tmp_path, monkeypatch, *, can_record: bool = True, free: int | None = None, **changes) -> bool:
    """Whether a run records its steps."""
    monkeypatch.setattr(recording, "CudaGraphs", lambda device, needed: Recorder())
    monkeypatch.setattr(recording, "can_record", lambda device: can_record)
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    return prepared(tmp_path, **changes).graphs is not None


def test_steps_are_recorded_unless_that_is_turned_off_or_impossible(tmp_path, monkeypatch):
    assert made(tmp_path, monkeypatch)
    assert not made(tmp_path, monkeypatch, cuda_graphs=False)
    assert not made(tmp_path, monkeypatch, can_record=False)
    # Blocks that are recomputed, and batches that are predicted twice.
    assert not made(tmp_path, monkeypatch, gradient_checkpointing=True)
    assert not made(tmp_path, monkeypatch, memory="save")
    assert not made(tmp_path, monkeypatch, mask_prior=0.5)
    (concept,) = toy_config(tmp_path / "data").concepts[:1]
    assert not made(tmp_path, monkeypatch, concepts=(replace(concept, negative_vectors=2),), negative_guidance=3.0)


@pytest.mark.parametrize("mode", ["auto", "fast"])
def test_steps_are_recorded_only_where_the_activations_fit_twice(tmp_path, monkeypatch, mode):
    assert made(tmp_path, monkeypatch, free=64 * 2**30, memory=mode)
    plan = prepared(tmp_path, memory=mode).memory
    assert plan.has_room_for_graphs
    assert not made(tmp_path, monkeypatch, free=int(plan.needed / 0.8) + 2**20, memory=mode)


@pytest.mark.parametrize(
    ("device", "version", "hip", "backend", "setting", "can"),
    [
        ("cuda", "2.1.2", None, "native", "", True),
        ("cpu", "2.1.2", None, "native", "", False),
        ("cuda", "2.0.1", None, "native", "", False),
        ("cuda", "2.9.0", "6.0", "native", "", False),
        ("cuda", "2.9.0", None, "cudaMallocAsync", "", False),
        ("cuda", "2.9.0", None, "native", "garbage_collection_threshold:0.6,max_split_size_mb:128", False),
    ],
)
def test_recording_is_not_tried_where_it_would_fail(monkeypatch, device, version, hip, backend, setting, can):
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: backend)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", setting)
    assert cuda_graph.can_record(torch.device(device)) is can
