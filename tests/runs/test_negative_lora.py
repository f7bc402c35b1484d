"""Runs with a negative LoRA: it is a file of its own, acts on negative captions only, and follows its bundle."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from lib_pivotal.app.status import words_to_type
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.negative_lora import negative_path
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.lora.adapter_set import NEGATIVE
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.chosen_step import choose_step
from lib_pivotal.core.train.setting_checks import check_settings
from lib_pivotal.core.train.step_bundles import remove_kept_bundles
from tests.runs.harness import Listener, folders, run, stopped_run
from tests.runs.test_negative import prepared
from tests.unit.toy import ToyModel, toy_config, write_images

CONCEPT = Concept("zog_x", init_text="teal thing", vectors=3, negative_vectors=2)


@pytest.fixture
def config(tmp_path):
    write_images(tmp_path / "data")
    return toy_config(tmp_path / "data", concepts=(CONCEPT,), negative_rank=2, unet_lr=1e-2)


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_it_is_written_next_to_the_bundle_and_says_what_it_is(tmp_path, config):
    outcome, _ = run(config, folders(tmp_path))
    negative = negative_path(outcome.bundle_path)
    assert negative.name == "toy-neg.safetensors"
    whole, own = read_bundle(outcome.bundle_path), read_bundle(negative)
    assert own.embeddings == {}
    assert own.lora["lora_unet_attn1_to_q.lora_down.weight"].shape == (2, 32)
    assert float(own.lora["lora_unet_attn1_to_q.alpha"]) == 1.0
    assert own.lora["lora_unet_attn1_to_q.lora_up.weight"].abs().max() > 0
    assert whole.lora["lora_unet_attn1_to_q.lora_down.weight"].shape == (4, 32)
    found = metadata_of(negative)
    assert found["pivotal_negative_lora"] == "toy"
    assert (found["ss_network_dim"], found["ss_output_name"]) == ("2", "toy-neg")
    assert "modelspec.trigger_phrase" not in found
    assert words_to_type(config, "toy") == "<lora:toy:1> <lora:toy-neg:1> zog_x\nNegative prompt: neg_zog_x"
    # A file for itself would invite to use it alone.
    assert not negative.with_suffix(".json").exists()


def test_a_file_of_somebody_else_is_kept(tmp_path, config):
    where = folders(tmp_path)
    where.bundles.mkdir()
    (where.bundles / "toy-neg.safetensors").write_bytes(b"mine")
    listener = Listener()
    run(config, where, listener=listener)
    assert (where.bundles / "toy-neg.safetensors").read_bytes() == b"mine"
    assert read_bundle(where.bundles / "toy-neg-2.safetensors").lora
    assert any("toy-neg-2.safetensors" in str(event) for event in listener.events)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path, config, kind):
    config = replace(config, lora_kind=kind, output_name="a")
    whole, heard = run(config, folders(tmp_path))
    where = folders(tmp_path, "again")
    stopped_run(config, where)
    again, rest = run(config, where, resume_from=where.run)
    assert heard.losses[4:] == rest.losses
    expected, found = (read_bundle(negative_path(item.bundle_path)).lora for item in (whole, again))
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_a_run_continues_from_both_files(tmp_path, config):
    outcome, _ = run(replace(config, save_precision="fp32"), folders(tmp_path))
    further = replace(config, start_from=str(outcome.bundle_path), output_name="further")
    setup = prepared(further, tmp_path)
    (part,) = [part for part in setup.adapters if part.part == NEGATIVE]
    stored = read_bundle(negative_path(outcome.bundle_path)).lora
    assert all(torch.equal(value, stored[key]) for key, value in part.state_dict().items())
    negative_path(outcome.bundle_path).unlink()
    found = check(further, bundles=tmp_path / "b", taken_names={}, tokenizer=ToyModel().text_encoders[0].tokenize)
    assert "there is no toy-neg.safetensors" in next(
        problem.message for problem in found.problems if problem.field == "negative_rank"
    )


def test_an_earlier_step_is_chosen_with_its_negative_lora(tmp_path, config):
    where = folders(tmp_path)
    outcome, _ = run(replace(config, step_bundles=4), where)
    last = read_bundle(negative_path(outcome.bundle_path)).lora
    kept = sorted(path.name for path in (where.run / "steps").iterdir())
    assert [name for name in kept if name.endswith("-neg.safetensors")] == [
        name.replace(".safetensors", "-neg.safetensors") for name in kept if "-neg" not in name
    ]
    choose_step(where.run, where.bundles, 2)
    chosen = read_bundle(negative_path(outcome.bundle_path)).lora
    earlier = read_bundle(where.run / "steps" / "toy-000002-neg.safetensors").lora
    assert all(torch.equal(value, earlier[key]) for key, value in chosen.items())
    assert any(not torch.equal(value, last[key]) for key, value in chosen.items())
    assert json.loads(metadata_of(negative_path(outcome.bundle_path))["pivotal_bundle"])["chosen_step"] == 2
    assert metadata_of(negative_path(outcome.bundle_path))["ss_output_name"] == "toy-neg"
    choose_step(where.run, where.bundles, 8)
    again = read_bundle(negative_path(outcome.bundle_path)).lora
    assert all(torch.equal(value, last[key]) for key, value in again.items())
    remove_kept_bundles(where.run)
    assert list((where.run / "steps").iterdir()) == []


def test_it_needs_a_negative_embedding_and_is_no_dora(config):
    without = replace(config, concepts=(replace(CONCEPT, negative_vectors=0),))
    dora = replace(config, lora_kind="dora", alpha=4.0)
    for wrong, word in ((without, "there are none"), (dora, "DoRA")):
        (problem,) = [problem for problem in check_settings(wrong) if problem.is_error]
        assert problem.field == "negative_rank" and word in problem.message
