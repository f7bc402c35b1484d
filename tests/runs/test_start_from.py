"""A run that starts from a bundle begins where that run ended, and refuses a bundle that does not fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.errors import BundleError, ConfigError
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.setup import prepare
from lib_pivotal.core.train.start_from import check_start_from
from lib_pivotal.core.train.start_source import find_start
from lib_pivotal.core.train.state import load_newest
from tests.runs.harness import folders, rewrite_state, run, stopped_run
from tests.unit.toy import ToyEncoder, ToyModel, toy_config, write_images

CONCEPTS = (Concept("zog_x", init_text="teal thing", vectors=3), Concept("mib_x", vectors=2, aliases=("left",)))


@pytest.fixture
def config(tmp_path):
    write_images(tmp_path / "data")
    return toy_config(tmp_path / "data", text_encoder_rank=2, save_precision="fp32", unet_lr=1e-2)


@pytest.fixture
def bundle(tmp_path, config) -> Path:
    outcome, _ = run(config, folders(tmp_path, "first"))
    return outcome.bundle_path


def prepared(config, tmp_path):
    return prepare(
        config,
        ToyModel(),
        cache=tmp_path / "cache",
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )


def test_a_new_run_begins_with_the_values_of_the_bundle(config, bundle, tmp_path):
    there = read_bundle(bundle)
    for alpha in (config.alpha, 8.0):
        setup = prepared(replace(config, start_from=f'"{bundle}"', alpha=alpha, output_name="new"), tmp_path)
        for name, encoders in setup.embeddings().items():
            assert torch.equal(encoders["clip_l"], there.embeddings[name]["clip_l"])
        lora = {key: value for part in setup.adapters for key, value in part.state_dict().items()}
        assert lora.keys() == there.lora.keys()
        for key, value in lora.items():
            if key.endswith("lora_up.weight"):
                # The same effect, whatever alpha is.
                scale = alpha / config.alpha
                assert torch.allclose(value * scale, there.lora[key].float(), atol=1e-6)
            elif key.endswith("lora_down.weight"):
                assert torch.equal(value, there.lora[key].float())


def test_a_layer_without_effect_in_a_bundle_of_an_earlier_version_is_left_out(config, bundle, tmp_path):
    with safe_open(bundle, "pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    layer = "lora_te_text_model_encoder_layers_23_mlp_fc1"
    tensors |= {f"{layer}.{name}.weight": torch.ones(2, 2) for name in ("lora_down", "lora_up")}
    save_file({**tensors, f"{layer}.alpha": torch.tensor(2.0)}, bundle, metadata)
    setup = prepared(replace(config, start_from=str(bundle), output_name="new"), tmp_path)
    assert not any(layer in key for part in setup.adapters for key in part.state_dict())


@pytest.mark.parametrize("what", ["state", "run", "kept"])
def test_a_new_run_begins_with_the_values_of_a_state_or_of_a_kept_step(config, tmp_path, what):
    """The values of an earlier run, in whatever order it has its names."""
    two = (Concept("mib_x", init_text="a small hat", vectors=0, aliases=("left",)), *config.concepts)
    where = folders(tmp_path, "first")
    outcome, _ = run(replace(config, concepts=two, step_bundles=8), where)
    states = where.run / "states"
    there = read_bundle(where.run / "steps" / "toy-000007.safetensors" if what == "kept" else outcome.bundle_path)
    start = states / "state-000008.safetensors" if what == "state" else where.run
    if what == "kept":
        shutil.rmtree(states)
    new = replace(config, start_from=str(start), alpha=8.0, output_name="new")
    assert [problem.severity for problem in check_start_from(new, "", ToyEncoder().tokenize)] == ["warning"]
    setup = prepared(new, tmp_path)
    assert torch.equal(setup.embeddings()["zog_x"]["clip_l"], there.embeddings["zog_x"]["clip_l"])
    lora = {key: value for part in setup.adapters for key, value in part.state_dict().items()}
    for key, value in there.lora.items():
        if key.endswith("lora_up.weight"):
            assert torch.allclose(lora[key] * 8.0 / config.alpha, value, atol=1e-6)
        elif key.endswith("lora_down.weight"):
            assert torch.equal(lora[key], value)


@pytest.mark.parametrize("what", ["bundle", "state"])
@pytest.mark.parametrize("kind", ["loha", "lokr", "dora"])
def test_other_kinds_of_lora_begin_as_strong_as_they_are_there(config, tmp_path, kind, what):
    where = folders(tmp_path, "first")
    outcome, _ = run(replace(config, lora_kind=kind, save_precision="fp32"), where)
    start = outcome.bundle_path if what == "bundle" else where.run / "states" / "state-000008.safetensors"
    new = replace(config, lora_kind=kind, start_from=str(start), alpha=8.0, output_name="new")
    assert check_start_from(new, "", ToyEncoder().tokenize) == []
    there = read_bundle(outcome.bundle_path).lora
    for part in prepared(new, tmp_path).adapters:
        for key, value in part.state_dict().items():
            strength = 8.0 / config.alpha if key.endswith("hada_w2_a") else 1.0
            if not key.endswith("alpha"):
                assert torch.allclose(value * strength, there[key].float(), atol=1e-6), key
    (problem, *_) = check_start_from(replace(new, lora_kind="lora"), "", ToyEncoder().tokenize)
    assert problem.field == "lora_kind" and kind in problem.hint
    problems = check_start_from(replace(new, lokr_factor=2), "", ToyEncoder().tokenize)
    assert [item.field for item in problems] == (["lokr_factor"] if kind == "lokr" else [])
    assert check_start_from(replace(new, rank=0, text_encoder_rank=0), "", None)[-1].field == "rank"


def test_a_state_that_does_not_fit_or_is_damaged_is_refused(config, tmp_path):
    where = folders(tmp_path, "first")
    run(config, where)
    state = where.run / "states" / "state-000008.safetensors"
    wrong = replace(config, start_from=str(where.run), rank=8, concepts=(Concept("zog_x", vectors=2),))
    fields = [problem.field for problem in check_start_from(wrong, "sdxl", None)]
    assert fields == ["concepts[0].vectors", "rank"]
    for changes in ({"rank": 8}, {"text_encoder_rank": 0}, {"concepts": (Concept("zog_x", vectors=2),)}):
        with pytest.raises(BundleError):
            prepared(replace(config, start_from=str(state), **changes), tmp_path)
    rewrite_state(state, facts={"config": None})
    assert "cannot be used (config is missing" in check_start_from(wrong, "", None)[0].message
    (tmp_path / "empty").mkdir()
    (problem,) = check_start_from(replace(config, start_from=str(tmp_path / "empty")), "", None)
    assert "no state and no bundle" in problem.message


def test_it_is_a_new_run_that_can_also_be_resumed(config, bundle, tmp_path):
    later = replace(config, start_from=str(bundle), output_name="later", lora_start=0.5, save_every=2)
    outcome, listener = run(later, folders(tmp_path, "whole"))
    assert outcome.outcome == "done" and len(listener.losses) == 8
    where = folders(tmp_path, "parts")
    stopped_run(later, where, at=4)
    bundle.unlink()
    run(later, where, resume_from=where.run)
    states = [load_newest(tmp_path / name / "states").tensors for name in ("whole", "parts")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"concepts": (Concept("other", vectors=3),)}, "concepts[0].name"),
        ({"concepts": (Concept("zog_x", vectors=2),)}, "concepts[0].vectors"),
        ({"concepts": (Concept("zog_x", init_text="one", vectors=0),)}, "concepts[0].vectors"),
        ({"rank": 8}, "rank"),
        ({"text_encoder_rank": 0}, "rank"),
        ({"lora_kind": "loha"}, "lora_kind"),
        ({"start_from": "/nowhere/x.safetensors"}, "start_from"),
        ({"start_from": "a\0b"}, "start_from"),
    ],
)
def test_a_bundle_that_does_not_fit_is_found_before_the_start(config, bundle, tmp_path, changes, field):
    wrong = replace(config, output_name="new", **{"start_from": str(bundle), **changes})
    problems = check_start_from(wrong, "", ToyEncoder().tokenize)
    assert [problem.field for problem in problems if problem.is_error] == [field]
    assert all(problem.hint for problem in problems)
    with pytest.raises(ConfigError):
        run(wrong, folders(tmp_path, "second"))


def test_a_file_that_is_no_bundle_and_another_family_are_refused(config, bundle, tmp_path):
    (tmp_path / "x.safetensors").write_text("x")
    assert check_start_from(replace(config, start_from=str(tmp_path / "x.safetensors")), "", None)[0].is_error
    (problem,) = check_start_from(replace(config, start_from=str(bundle)), "sdxl", None)
    assert "model is SDXL" in problem.message


def test_embeddings_that_would_be_left_behind_are_a_warning(config, tmp_path):
    two = replace(config, concepts=CONCEPTS)
    outcome, _ = run(two, folders(tmp_path, "first"))
    (problem,) = check_start_from(replace(config, start_from=str(outcome.bundle_path)), "", None)
    assert problem.severity == "warning" and "mib_x" in problem.message


def test_the_engine_itself_refuses_layers_that_do_not_fit(config, bundle, tmp_path):
    for changes in ({"rank": 8}, {"text_encoder_rank": 0}, {"concepts": (*CONCEPTS[:1], Concept("new"))}):
        with pytest.raises(BundleError):
            prepared(replace(config, start_from=str(bundle), **changes), tmp_path)


def test_the_path_is_not_in_the_metadata(config, bundle, tmp_path):
    outcome, _ = run(replace(config, start_from=str(bundle), output_name="later"), folders(tmp_path, "second"))
    assert str(bundle.parent) not in str(read_bundle(outcome.bundle_path).metadata)


@pytest.mark.parametrize(
    ("steps", "wanted"), [((4, 6), "steps/hero-000006"), ((8, 6), "states/state-000008"), ((6, 6), "steps/hero-000006")]
)
def test_of_a_run_folder_the_latest_step_counts(tmp_path, steps, wanted):
    state, kept = steps
    for path in (f"states/state-{state:06}.safetensors", f"steps/hero-{kept:06}.safetensors"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).touch()
    assert find_start(str(tmp_path)) == tmp_path / f"{wanted}.safetensors"
