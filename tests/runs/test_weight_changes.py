"""How far the LoRA changes the weights: in the table of a run, and its limit."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace

import pytest
import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.events import StepDone
from lib_pivotal.core.train.checks import check
from tests.runs.harness import folders, run, stopped_run
from tests.unit.toy import ToyModel, toy_config


def changes_in(path) -> dict[str, float]:
    """Kohya key → norm of the change, computed from the file."""
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in read_bundle(path).lora.items():
        name, _, part = key.partition(".")
        layers.setdefault(name, {})[part] = value
    return {name: float(norm_of_change(**{part.replace(".", "_"): v for part, v in layer.items()}))
            for name, layer in layers.items()}  # fmt: skip


def norm_of_change(alpha, **parts) -> torch.Tensor:
    """The norm of a layer's change by the formula of its kind, 0-dim."""
    norm = torch.linalg.vector_norm
    if "lokr_w1" in parts:
        # Of a Kronecker product.
        return norm(parts["lokr_w1"]) * norm(parts["lokr_w2"])
    if "hada_w1_a" in parts:
        first, second = (parts[f"hada_w{side}_a"] @ parts[f"hada_w{side}_b"] for side in (1, 2))
        return norm(alpha / len(parts["hada_w1_b"]) * first * second)
    down, up = parts["lora_down_weight"].flatten(1), parts["lora_up_weight"].flatten(1)
    return norm(alpha / len(down) * up @ down)


def test_changes_are_measured_now_and_then_and_end_up_in_the_table(tmp_path, data, caplog):
    caplog.set_level(logging.INFO, "pivotal.monitor")
    config = toy_config(data, steps=100, text_encoder_rank=2, conv_rank=2, unet_lr=1e-2, save_precision="fp32")
    where = folders(tmp_path)
    model = ToyModel()
    outcome, listener = run(config, where, model)
    measured = {event.step: event.weight_changes for event in listener.of(StepDone) if event.weight_changes}
    assert list(measured) == [1, *range(10, 101, 10)]
    assert list(measured[1]) == ["unet", "clip_l"]
    assert measured[100]["unet"] > measured[10]["unet"] > measured[1]["unet"]
    weights = {target.key: float(target.module.weight.norm()) for target in model.lora_targets()}
    ratios = {key: norm / weights[key] for key, norm in changes_in(outcome.bundle_path).items()}
    for part, prefix in (("unet", "lora_unet"), ("clip_l", "lora_te")):
        largest = max(ratio for key, ratio in ratios.items() if key.startswith(prefix))
        assert measured[100][part] == pytest.approx(largest, rel=1e-4)
    with (where.run / "loss.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["change unet"]] == [str(step) for step in measured]
    assert float(rows[99]["change clip_l"]) == measured[100]["clip_l"]
    shown = ", ".join(f"{part} {ratio:.1%}" for part, ratio in measured[100].items())
    assert caplog.messages.count(f"Step 100: the LoRA changes weights by up to: {shown}") == 1
    assert sum("changes weights" in message for message in caplog.messages) == 1


def test_a_resumed_run_measures_after_the_same_steps(tmp_path, data):
    where = folders(tmp_path)
    config = toy_config(data, steps=20)
    stopped_run(config, where, at=7)
    _, listener = run(config, where, resume_from=where.run)
    assert [event.step for event in listener.of(StepDone) if event.weight_changes] == [10, 20]


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_no_layer_changes_more_than_the_limit(tmp_path, data, kind):
    ranks = {"conv_rank": 2, "text_encoder_rank": 2, "lokr_factor": 2}
    config = toy_config(data, unet_lr=2e-2, text_encoder_lr=2e-2, lora_kind=kind, save_precision="fp32", **ranks)
    _, free = run(config, folders(tmp_path, "free"))
    limit = 0.02
    outcome, limited = run(replace(config, max_weight_change=limit), folders(tmp_path, "limited"))
    assert free.losses[:1] == limited.losses[:1] and free.losses[-1] != limited.losses[-1]
    norms = changes_in(outcome.bundle_path)
    for prefix in ("lora_unet", "lora_te"):
        largest = max(norm for key, norm in norms.items() if key.startswith(prefix))
        assert largest == pytest.approx(limit, rel=1e-3)


def test_a_limit_that_is_never_reached_changes_nothing(tmp_path, data):
    _, free = run(toy_config(data), folders(tmp_path, "free"))
    _, limited = run(toy_config(data, max_weight_change=1000.0), folders(tmp_path, "limited"))
    assert free.losses == limited.losses


def test_the_limit_does_not_go_with_averaged_weights(tmp_path):
    pytest.importorskip("schedulefree", reason="an optional package is not installed")
    config = TrainConfig(
        concepts=(Concept("zog_x"),), optimizer="schedulefree:AdamWScheduleFree", max_weight_change=1.0
    )
    problems = check(config, bundles=tmp_path, taken_names={}).problems
    assert [item.severity for item in problems if item.field == "max_weight_change"] == ["error"]
