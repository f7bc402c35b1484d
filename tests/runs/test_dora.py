"""Runs that train a DoRA: who can use it is said, its magnitudes have no weight decay, and a run resumes exactly."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.events import StepDone, Warned
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.setting_checks import check_settings
from lib_pivotal.core.train.setup import prepare
from lib_pivotal.core.train.state import load_newest
from tests.runs.harness import folders, run, stopped_run
from tests.unit.toy import ToyModel, toy_config


@pytest.fixture
def config(data):
    return toy_config(
        data, steps=20, lora_kind="dora", text_encoder_rank=2, conv_rank=2, lora_start=0.2, unet_lr=1e-2, alpha=0.5
    )


def test_a_run_stopped_and_resumed_equals_one_without_a_stop(config, tmp_path):
    outcome, straight = run(config, folders(tmp_path, "whole"))
    where = folders(tmp_path, "parts")
    _, first = stopped_run(config, where, at=10)
    _, second = run(config, where, resume_from=where.run)
    assert first.losses + second.losses == straight.losses
    a, b = load_newest(tmp_path / "whole" / "states").tensors, load_newest(where.run / "states").tensors
    assert a.keys() == b.keys() and "lora/unet magnitudes" in a
    assert all(torch.equal(a[key], b[key]) for key in a)
    lora = read_bundle(outcome.bundle_path).lora
    model = ToyModel()
    for target in model.lora_targets():
        if f"{target.key}.dora_scale" not in lora:
            continue
        found, weight = lora[f"{target.key}.dora_scale"], target.module.weight
        rest = [0, *range(2, weight.ndim)]
        start = weight.square().sum(rest, keepdim=True).sqrt()
        assert found.dtype == torch.float32 and lora[f"{target.key}.lora_up.weight"].dtype == torch.float16
        assert found.shape == start.shape and not torch.allclose(found, start, rtol=1e-4)
        assert float(lora[f"{target.key}.alpha"]) == len(lora[f"{target.key}.lora_down.weight"])
    events = straight.of(StepDone)
    assert events[3].grad_norms["unet magnitudes"] == 0.0 < events[4].grad_norms["unet magnitudes"]
    assert events[19].weight_changes["unet"] > 0.0


def test_the_file_has_what_was_trained(config, tmp_path):
    outcome, _ = run(config, folders(tmp_path))
    bundle = read_bundle(outcome.bundle_path)
    trained = load_newest(tmp_path / "run" / "states").tensors["lora/unet magnitudes"]
    unet = AdapterSet.from_state("unet", ToyModel().lora_targets(), bundle.lora, torch.device("cpu"))
    assert torch.equal(unet.flats[1].values, trained)
    assert bundle.metadata["ss_network_module"] == "lycoris.kohya"
    assert float(bundle.metadata["ss_network_alpha"]) == config.rank
    assert '"dora_wd"' in bundle.metadata["ss_network_args"]


def test_magnitudes_have_no_weight_decay_and_the_rate_of_their_part(config, tmp_path):
    setup = prepare(config, ToyModel(), cache=tmp_path, group=SingleProcess(), progress=lambda *_: None,
                    stopped=lambda: False)  # fmt: skip
    groups = {group.name: group for group in setup.optimizer.groups}
    assert list(groups) == ["unet", "clip_l", "zog_x clip_l", "unet magnitudes", "clip_l magnitudes"]
    for part in ("unet", "clip_l"):
        assert groups[part].weight_decay == config.weight_decay > 0.0 == groups[f"{part} magnitudes"].weight_decay
        assert groups[part].lr == groups[f"{part} magnitudes"].lr
    factors = dict(zip(groups, setup.lr_factors, strict=True))
    assert all(factors["unet"](step) == factors["unet magnitudes"](step) for step in range(20))


def test_who_can_use_it_is_said_before_the_run_and_at_its_start(config, tmp_path):
    (problem,) = check_settings(config)
    assert (problem.field, problem.severity) == ("lora_kind", "warning")
    assert "1.9" in problem.message and "Forge" in problem.hint
    limited = toy_config(tmp_path, lora_kind="dora", max_weight_change=1.0)
    assert [(item.field, item.severity) for item in check_settings(limited)][1:] == [("max_weight_change", "error")]
    without = toy_config(tmp_path, lora_kind="dora", rank=0)
    assert check_settings(without) == []
    _, listener = run(config, folders(tmp_path))
    assert any("1.9" in event.message for event in listener.of(Warned))
