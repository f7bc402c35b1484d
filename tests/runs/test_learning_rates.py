"""The learning rate of every group at every step, as loss.csv shows it; and what the seed decides."""

from __future__ import annotations

import math

import pytest
import torch

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.events import StepDone
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.optim.width_rule import embedding_lr_factor, lora_lr_factor
from lib_pivotal.core.train.state import load_newest
from tests.runs.harness import folders, run
from tests.unit.toy import ToyEncoder, ToyModel, toy_config

CONCEPTS = (
    Concept("zog_x", vectors=2, lr_multiplier=2.0, stop_at=0.5),
    Concept("tag 1", vectors=1, stop_at=1.0),
)


def width_factors() -> dict[str, float]:
    """Group → by what its rate is multiplied because the toy model is narrow."""
    model, family = ToyModel(), FAMILIES["sd1"]
    loras = {part: lora_lr_factor(part, model.lora_targets(), family) for part in ("unet", "clip_l")}
    embeddings = embedding_lr_factor("clip_l", ToyEncoder.width, family)
    return {**loras, **{f"{concept.name} clip_l": embeddings for concept in CONCEPTS}}


def rates_of(tmp_path, data, **changes) -> dict[str, list[float]]:
    """Group → its learning rate at each of ten steps at the usual width, as a multiple of 1e-3."""
    values = {"steps": 10, "concepts": CONCEPTS, "warmup": 0.0, "schedule": "constant", "text_encoder_rank": 1}
    rates = {"unet_lr": 1e-3, "embedding_lr": 1e-3, "text_encoder_lr": 3e-3}
    _, listener = run(toy_config(data, **{**values, **rates, **changes}), folders(tmp_path))
    steps = [event.learning_rates for event in listener.of(StepDone)]
    factors = width_factors()
    return {name: [pytest.approx(step[name] / factors[name] * 1e3, abs=1e-9) for step in steps] for name in steps[0]}


def half_wave(steps: int, factor: float = 1.0) -> list[float]:
    return [factor * 0.5 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]


def test_constant_rates_and_the_end_of_each_concept(tmp_path, data):
    assert rates_of(tmp_path, data) == {
        "unet": [1.0] * 10,
        "clip_l": [3.0] * 10,
        "zog_x clip_l": [2.0] * 5 + [0.0] * 5,
        "tag 1 clip_l": [1.0] * 10,
    }


def test_rates_fall_along_a_cosine_to_their_own_ends(tmp_path, data):
    assert rates_of(tmp_path, data, schedule="cosine") == {
        "unet": half_wave(10),
        "clip_l": half_wave(10, 3.0),
        "zog_x clip_l": half_wave(5, 2.0) + [0.0] * 5,
        "tag 1 clip_l": half_wave(10),
    }


def test_loras_start_late_and_then_warm_up_while_embeddings_do_neither(tmp_path, data):
    rates = rates_of(tmp_path, data, lora_start=0.2, warmup=0.3)
    assert rates["unet"] == [0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert rates["clip_l"] == [0.0, 0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    assert rates["tag 1 clip_l"] == [1.0] * 10


def test_a_late_lora_has_the_whole_cosine_before_it(tmp_path, data):
    rates = rates_of(tmp_path, data, lora_start=0.2, schedule="cosine")
    assert rates["unet"] == [0.0, 0.0, *half_wave(8)]


def test_without_concepts_the_lora_starts_at_once(tmp_path, data):
    rates = rates_of(tmp_path, data, concepts=(), lora_start=0.5)
    assert rates == {"unet": [1.0] * 10, "clip_l": [3.0] * 10}


def test_start_values_follow_the_seed(tmp_path, data):
    # With all learning rates 0, the state after one step has the initial values.
    def start(seed: int, name: str) -> dict[str, torch.Tensor]:
        still = {"unet_lr": 0.0, "embedding_lr": 0.0, "text_encoder_lr": 0.0, "text_encoder_rank": 1}
        where = folders(tmp_path, name)
        run(toy_config(data, steps=1, seed=seed, **still), where)
        return load_newest(where.run / "states").tensors

    one, same, other = start(1, "a"), start(1, "b"), start(2, "c")
    for key in ("lora/unet", "lora/clip_l", "table/clip_l"):
        assert torch.equal(one[key], same[key])
        assert not torch.equal(one[key], other[key])
