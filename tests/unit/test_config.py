"""Settings survive every conversion, and all their problems are reported at once."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
import torch

from lib_pivotal.core.config.io import from_dict, from_json, read_dict, to_dict, to_json
from lib_pivotal.core.config.schema import LISTS, Concept, TrainConfig, field_info
from lib_pivotal.core.diffusion.objective import zero_terminal
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.model_checks import check_schedule, family_hints
from lib_pivotal.core.train.setting_checks import check_settings, with_parse_problems
from lib_pivotal.core.train.state_facts import changed_settings
from tests.unit.toy import ToyEncoder, toy_config, write_images


def test_json_round_trip():
    config = TrainConfig(concepts=(Concept("zog", "red hat", 3, ("a", "b"), 0.5, 1.0),), unet_lr=2e-4, flip=True)
    assert from_json(to_json(config)) == config
    assert from_dict({}) == TrainConfig()


def test_every_problem_is_reported_at_once():
    values = {
        "stepz": 1,
        "rank": 1.5,
        "flip": "yes",
        "concepts": [{"vectors": "x"}, 3, {"name": "a", "init": ""}],
        "seed": None,
    }
    with pytest.raises(ConfigError) as caught:
        from_dict(values)
    found = {problem.field for problem in caught.value.problems}
    assert found == {
        "stepz",
        "rank",
        "flip",
        "seed",
        "concepts[0].name",
        "concepts[0].vectors",
        "concepts[1]",
        "concepts[2].init",
    }
    assert "steps" in str(caught.value)


def test_a_value_that_cannot_be_read_hides_no_other_problem():
    concepts = [{"name": 5, "vectors": "x"}, "no object", {"name": "zog_x", "stop_at": "late", "lr_multiplier": 2}]
    config, parse_problems = read_dict({"unet_lr": "fast", "rank": 8, "concepts": concepts})
    assert (config.unet_lr, config.rank) == (TrainConfig().unet_lr, 8)
    # Every concept keeps its position, so that problems refer to the right one.
    assert config.concepts == (Concept(""), Concept(""), Concept("zog_x", lr_multiplier=2.0))
    fields_found = [problem.field for problem in parse_problems]
    assert fields_found == ["unet_lr", "concepts[0].name", "concepts[0].vectors", "concepts[1]", "concepts[2].stop_at"]


def test_a_value_that_cannot_be_read_is_not_reported_a_second_time_for_its_default():
    def problems(*names):
        return [Problem(name, "error", "wrong", "better") for name in names]

    parse_problems = problems("concepts[1]", "rank")
    found = problems("concepts[1].name", "rank", "concepts[0].name", "rank.png", "data_folder")
    assert with_parse_problems(parse_problems, found) == [*parse_problems, *found[2:]]


@pytest.mark.parametrize(
    "text", ["[1]", "{", '"x"', '{"config_version": 99}', '{"concepts": 3}', '{"steps": Infinity}']
)
def test_unreadable_settings_are_refused(text):
    with pytest.raises(ConfigError):
        from_json(text)


def test_schema_is_complete():
    for name, info in field_info().items():
        assert info["label"] and info["help"].endswith("."), name
        assert info["level"] in ("basic", "advanced", "expert", "headless"), name
        assert info["choices"] == () or info["default"] in info["choices"], name
        if info["type"] in ("int", "float"):
            assert info["low"] <= info["default"] <= info["high"], name
    labels = [info["label"] for info in field_info().values()]
    assert len(labels) == len(set(labels))
    assert [item.name for item in fields(TrainConfig) if item.name not in LISTS] == list(field_info())
    assert json.loads(to_json(TrainConfig())) == to_dict(TrainConfig())


@pytest.mark.parametrize("name", [name for name, info in field_info().items() if info["low"] is not None])
def test_limits_hold(name):
    info = field_info()[name]
    for value in (info["low"] - 1, info["high"] + 1):
        problems = check_settings(TrainConfig(concepts=(Concept("zog x"),), **{name: value}))
        assert [problem.field for problem in problems if problem.field == name] == [name]


def test_concept_limits_and_contradictions():
    concepts = (
        Concept("a x", vectors=76, lr_multiplier=0.0, stop_at=1.5, aliases=("tag",)),
        Concept("b x", aliases=("Tag",)),
    )
    found = {problem.field for problem in check_settings(TrainConfig(concepts=concepts))}
    assert found == {"concepts[0].vectors", "concepts[0].lr_multiplier", "concepts[0].stop_at", "concepts[1].aliases"}
    assert [problem.field for problem in check_settings(TrainConfig(rank=0))] == ["concepts"]
    assert [problem.field for problem in check_settings(TrainConfig(alpha=0.0))] == ["alpha"]


def test_check_gathers_settings_names_data_and_output(tmp_path):
    write_images(tmp_path / "data")
    (tmp_path / "data" / "broken.png").write_bytes(b"x")
    (tmp_path / "toy.safetensors").write_bytes(b"x")
    config = toy_config(tmp_path / "data", batch_size=0, concepts=(Concept("zog_x"), Concept("bad.name")))
    found = {
        problem.field
        for problem in check(config, bundles=tmp_path, taken_names={}, tokenizer=ToyEncoder().tokenize).problems
    }
    assert found >= {"batch_size", "concepts[1].name", "broken.png", "output_name"}


def test_initialization_text_of_the_wrong_length_is_reported(tmp_path):
    write_images(tmp_path / "data")
    long = ", ".join(["word"] * 40)

    def found(**values):
        config = toy_config(tmp_path / "data", concepts=(Concept("zog_x", **values),))
        problems = check(config, bundles=tmp_path, taken_names={}, tokenizer=ToyEncoder().tokenize).problems
        return [(problem.field, problem.message) for problem in problems if problem.is_error]

    ((field, message),) = found(init_text=long, vectors=0)
    assert field == "concepts[0].init_text" and "79 tokens" in message
    assert not found(init_text=long, vectors=4)
    assert not found(init_text=", ".join(["word"] * 38), vectors=0)


@pytest.mark.parametrize(("family", "most"), [("sd1", 12), ("sd2", 12), ("sdxl", 6)])
def test_more_embeddings_than_forge_takes_are_a_warning(family, most):
    def warned(count):
        config = TrainConfig(concepts=tuple(Concept(f"zog_{number}") for number in range(count)))
        found = [item for item in family_hints(family, config.resolution, config) if item.field == "concepts"]
        assert all("Forge" in item.message and not item.is_error for item in found)
        return bool(found)

    assert [warned(most), warned(most + 1)] == [False, True]


def test_check_of_empty_settings(tmp_path):
    found = {problem.field for problem in check(TrainConfig(), bundles=tmp_path, taken_names={}).problems}
    assert found == {"output_name", "data_folder"}


def test_limits_of_concepts_are_those_of_the_schema():
    bad = {"vectors": 76, "lr_multiplier": 0.0, "stop_at": 1.5}
    config = TrainConfig(
        concepts=(Concept("zog_x", **bad), Concept("mia_x", vectors=75, lr_multiplier=100.0, stop_at=1.0))
    )
    found = [problem for problem in check_settings(config) if problem.field.startswith("concepts")]
    assert [problem.field for problem in found] == [f"concepts[0].{name}" for name in bad]
    assert "above 0, up to 100" in found[1].hint


@pytest.mark.parametrize(("old", "new"), [(True, "band"), (False, "free")])
def test_settings_of_earlier_releases_are_read(old, new):
    assert from_dict({"norm_band": old}).embedding_norms == new
    assert changed_settings({"norm_band": old}, {"embedding_norms": new}) == []
    (problem,) = read_dict({"norm_band": "yes"})[1]
    assert problem.field == "norm_band"


def test_alpha_does_not_matter_without_one():
    config = TrainConfig(concepts=(Concept("zog_v1"),), alpha=0.0)
    assert [item.field for item in check_settings(config)] == ["alpha"]
    assert check_settings(replace(config, lora_kind="lokr")) == []


def test_noise_levels_that_leave_nothing_to_train_are_an_error():
    problems = check_settings(TrainConfig(concepts=(Concept("zog_v1"),), min_timestep=0.6, max_timestep=0.5))
    assert [item.field for item in problems if item.is_error] == ["max_timestep"]


def test_a_noise_offset_is_refused_with_zero_terminal_snr():
    config = TrainConfig(concepts=(Concept("zog_v1"),), noise_offset=0.05)
    plain = torch.linspace(0.99, 0.005, 1000)
    assert check_schedule(config, plain.tolist()) == []
    (problem,) = check_schedule(config, zero_terminal(plain).tolist())
    assert problem.is_error and problem.field == "noise_offset"
    assert check_schedule(TrainConfig(), zero_terminal(plain).tolist()) == []


def test_blocks_that_the_model_does_not_have_are_an_error(tmp_path):
    config = TrainConfig(concepts=(Concept("zog_v1"),), lora_layers="style", output_name="x", data_folder=str(tmp_path))
    found = {
        family: [
            item
            for item in check(config, bundles=tmp_path, taken_names={}, family=family).problems
            if item.field == "lora_layers"
        ]
        for family in ("sd1", "sdxl", "")
    }
    assert [len(problems) for problems in found.values()] == [1, 0, 0]
    assert found["sd1"][0].is_error and "SDXL" in found["sd1"][0].message
