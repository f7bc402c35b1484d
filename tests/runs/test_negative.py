"""Runs with negative embeddings: what they write, show and need, and that they continue as they began."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from lib_pivotal.app.status import words_to_type
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.setup import prepare
from tests.runs.harness import ImageMaker, folders, run, stopped_run
from tests.unit.toy import ToyModel, toy_config, write_images

CONCEPT = Concept("zog_x", init_text="teal thing", vectors=3, negative_vectors=2)


@pytest.fixture
def config(tmp_path):
    write_images(tmp_path / "data")
    return toy_config(tmp_path / "data", concepts=(CONCEPT,))


class Asked(ImageMaker):
    """Records what previews are asked for."""

    def __init__(self) -> None:
        self.requests, self.names = [], set()

    def make(self, request, embeddings):
        self.requests.append(request)
        self.names |= set(embeddings)
        return super().make(request, embeddings)


def test_the_bundle_has_both_embeddings_and_the_card_says_how_to_use_them(tmp_path, config):
    outcome, _ = run(config, folders(tmp_path))
    bundle = read_bundle(outcome.bundle_path)
    shapes = {name: tuple(encoders["clip_l"].shape) for name, encoders in bundle.embeddings.items()}
    assert shapes == {"zog_x": (3, 16), "neg_zog_x": (2, 16)}
    card = json.loads(outcome.bundle_path.with_suffix(".json").read_text())
    assert card["activation text"] == "zog_x"
    assert card["negative text"] == "neg_zog_x"
    with safe_open(outcome.bundle_path, "pt") as file:
        metadata = file.metadata()
    own = json.loads(metadata["pivotal_bundle"])["embeddings"]
    assert own["neg_zog_x"]["negative_of"] == "zog_x"
    assert own["neg_zog_x"]["vectors"] == 2
    assert metadata["modelspec.trigger_phrase"] == "zog_x"
    assert words_to_type(config, "toy") == "<lora:toy:1> zog_x\nNegative prompt: neg_zog_x"


def test_a_card_without_negative_embeddings_keeps_its_own_negative_text(tmp_path, config):
    where = folders(tmp_path)
    where.bundles.mkdir()
    (where.bundles / "toy.json").write_text(json.dumps({"negative text": "blurred"}))
    run(replace(config, concepts=(replace(CONCEPT, negative_vectors=0),)), where)
    assert json.loads((where.bundles / "toy.json").read_text())["negative text"] == "blurred"


def test_previews_have_the_negative_embeddings_of_their_prompts(tmp_path, config):
    sampler = Asked()
    prompts = replace(config, sample_every=8, sample_prompts="zog_x, left\na hat")
    run(prompts, folders(tmp_path), sampler=sampler)
    assert [item.negative_prompt for item in sampler.requests[:2]] == ["neg_zog_x", ""]
    assert sampler.names == {"zog_x", "neg_zog_x"}
    own = Asked()
    run(replace(prompts, sample_negative="blurred"), folders(tmp_path, "own"), sampler=own)
    assert {item.negative_prompt for item in own.requests} == {"blurred"}


def test_both_embeddings_move_and_the_vocabulary_does_not(tmp_path, config):
    model = ToyModel()
    before = model.tensors()
    first = read_bundle(run(replace(config, steps=1), folders(tmp_path))[0].bundle_path).embeddings
    last = read_bundle(run(config, folders(tmp_path, "long"), model)[0].bundle_path).embeddings
    for name in ("zog_x", "neg_zog_x"):
        assert (first[name]["clip_l"] - last[name]["clip_l"]).abs().min() > 1e-5, name
    assert all(torch.equal(value, before[name]) for name, value in model.tensors().items())


def test_the_positive_vectors_start_as_without_a_negative_embedding(tmp_path, config):
    def start(concept):
        return prepared(replace(config, concepts=(concept,)), tmp_path).embeddings()["zog_x"]["clip_l"]

    assert torch.equal(start(CONCEPT), start(replace(CONCEPT, negative_vectors=0)))


def prepared(config, tmp_path, model=None):
    return prepare(
        config,
        model or ToyModel(),
        cache=tmp_path,
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )


def test_without_a_negative_embedding_its_settings_change_nothing(tmp_path, config):
    plain = replace(config, concepts=(replace(CONCEPT, negative_vectors=0),))
    _, without = run(plain, folders(tmp_path))
    other = replace(plain, negative_guidance=7.0, negative_with_lora=True)
    _, changed = run(other, folders(tmp_path, "other"))
    assert without.losses == changed.losses


@pytest.mark.parametrize("with_lora", [False, True])
def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path, config, with_lora):
    config = replace(config, negative_with_lora=with_lora, text_encoder_rank=2, output_name="a")
    whole, heard = run(config, folders(tmp_path))
    where = folders(tmp_path, "again")
    stopped_run(config, where)
    again, rest = run(config, where, resume_from=where.run)
    assert heard.losses[4:] == rest.losses
    expected, found = read_bundle(whole.bundle_path), read_bundle(again.bundle_path)
    assert all(torch.equal(value, found.lora[key]) for key, value in expected.lora.items())
    for name, encoders in expected.embeddings.items():
        assert torch.equal(encoders["clip_l"], found.embeddings[name]["clip_l"])


def test_a_run_continues_from_a_bundle_with_negative_embeddings(tmp_path, config):
    outcome, _ = run(config, folders(tmp_path))
    further = replace(config, start_from=str(outcome.bundle_path), output_name="further")
    stored = read_bundle(outcome.bundle_path).embeddings
    started = prepared(further, tmp_path).embeddings()
    for name in ("zog_x", "neg_zog_x"):
        assert torch.equal(started[name]["clip_l"], stored[name]["clip_l"]), name

    def problems(count):
        changed = replace(further, concepts=(replace(CONCEPT, negative_vectors=count),))
        found = check(changed, bundles=tmp_path / "b", taken_names={}, tokenizer=ToyModel().text_encoders[0].tokenize)
        return [(item.field, item.message) for item in found.problems if "to start from" in item.message]

    assert problems(2) == []
    (wrong,) = problems(5)
    assert wrong[0] == "concepts[0].negative_vectors" and "has 2 negative vectors, not 5" in wrong[1]


def test_memory_is_estimated_for_both_captions(tmp_path, config):
    both = prepared(config, tmp_path)
    twice = prepared(
        replace(config, concepts=(replace(CONCEPT, vectors=5, negative_vectors=0),), batch_size=4), tmp_path
    )
    assert both.trainable_count == twice.trainable_count
    assert both.memory.needed == twice.memory.needed


def test_validation_measures_the_combined_prediction(tmp_path, config):
    measured = []
    for negatives in (0, 2):
        changed = replace(
            config, concepts=(replace(CONCEPT, negative_vectors=negatives),), validation_share=0.4, embedding_lr=0.0
        )
        validation = prepared(changed, tmp_path).validation
        measured.append(validation.measure())
    assert measured[0].keys() == measured[1].keys() == {"caption", "name_only", "initialization"}
    assert measured[0]["caption"] != measured[1]["caption"]
    assert measured[0]["initialization"] == measured[1]["initialization"]


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        ((CONCEPT, Concept("neg_zog_x")), "neg_zog_x is also the name of a negative embedding."),
        ((replace(CONCEPT, name="zog_" + "x" * 54),), "is longer than 60 characters."),
    ],
)
def test_names_of_negative_embeddings_are_checked(tmp_path, config, concepts, message):
    changed = replace(config, concepts=concepts)
    problems = check(changed, bundles=tmp_path, taken_names={}).problems
    assert any(message in problem.message for problem in problems if problem.is_error)


def test_a_name_within_the_name_of_its_own_negative_embedding_is_no_problem(tmp_path, config):
    tokenize = ToyModel().text_encoders[0].tokenize
    problems = check(config, bundles=tmp_path, taken_names={}, tokenizer=tokenize).problems
    assert not [problem for problem in problems if problem.field == "concepts[0].name"]
