"""A run that adds names to a bundle keeps the others: their vectors, what the LoRA does for them, and its state."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.setup import prepare
from tests.runs.harness import folders, run, stopped_run
from tests.unit.toy import ToyEncoder, ToyModel, toy_config, write_images

NEW = (Concept("mib_y", init_text="teal thing", vectors=2),)


KINDS = {"lora": {}, "loha": {}, "lokr": {"lokr_factor": 4}, "dora": {}}


def _adding(tmp_path: Path, **changes):
    """The settings of a run that adds a name to a bundle, which is trained with the changes."""
    write_images(tmp_path / "old")
    write_images(tmp_path / "new", name="mib_y")
    settings = {"text_encoder_rank": 2, "save_precision": "fp32", "unet_lr": 1e-2, "steps": 12, **changes}
    old = toy_config(tmp_path / "old", **settings)
    outcome, _ = run(old, folders(tmp_path, "first"))
    new = replace(old, data_folder=str(tmp_path / "new"), concepts=NEW, output_name="both", keep_names=1.0)
    return replace(new, start_from=str(outcome.bundle_path))


@pytest.fixture
def config(tmp_path):
    """The run that adds a name."""
    return _adding(tmp_path)


def _prediction(bundle_path: Path, caption: str) -> torch.Tensor:
    """What a bundle predicts for a caption."""
    model, bundle = ToyModel(), read_bundle(bundle_path)
    parts = [
        AdapterSet.from_state(part, model.lora_targets(), bundle.lora, model.device) for part in ("unet", "clip_l")
    ]
    conditioner = TextConditioner(model, EmbeddingWeights.of(bundle.embeddings, model.device))
    noisy = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with attach(parts), torch.no_grad():
        (text,) = conditioner.encode([caption] * 16, [ImageSize((64, 64), (0, 0), (64, 64))] * 16)
        return model.predict(noisy, torch.arange(20, 980, 60), text.conditioning)


def test_the_new_bundle_has_the_old_vectors_unchanged_and_the_new_ones(config, tmp_path):
    outcome, _ = run(config, folders(tmp_path))
    before, after = read_bundle(Path(config.start_from)), read_bundle(outcome.bundle_path)
    assert torch.equal(after.embeddings["zog_x"]["clip_l"], before.embeddings["zog_x"]["clip_l"])
    assert after.embeddings["mib_y"]["clip_l"].shape[0] == 2
    assert after.metadata["modelspec.trigger_phrase"] == "mib_y, zog_x"
    assert set(json.loads(after.metadata["pivotal_bundle"])["embeddings"]) == {"mib_y", "zog_x"}
    assert json.loads(outcome.bundle_path.with_suffix(".json").read_text())["activation text"] == "mib_y, zog_x"


@pytest.mark.parametrize("norms", ["band", "direction"])
def test_kept_vectors_do_not_move_whatever_the_norms(config, tmp_path, norms):
    outcome, _ = run(replace(config, embedding_norms=norms, embedding_lr=0.5), folders(tmp_path))
    before, after = read_bundle(Path(config.start_from)), read_bundle(outcome.bundle_path)
    assert torch.equal(after.embeddings["zog_x"]["clip_l"], before.embeddings["zog_x"]["clip_l"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_lora_does_more_of_what_it_did_for_the_old_name(tmp_path, kind):
    config = _adding(tmp_path, lora_kind=kind, **KINDS[kind])
    caption = "zog_x, left, blue background"
    before = _prediction(Path(config.start_from), caption)
    changes = []
    for weight in (1e-6, 5.0):
        outcome, _ = run(replace(config, keep_names=weight, steps=30), folders(tmp_path, f"run-{weight:g}"))
        changes.append(float((_prediction(outcome.bundle_path, caption) - before).pow(2).mean()))
    assert changes[1] < 0.5 * changes[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path, kind):
    config = _adding(tmp_path, conv_rank=2, lora_kind=kind, **KINDS[kind])
    whole, listener = run(config, folders(tmp_path, "whole"))
    where = folders(tmp_path, "stopped")
    stopped_run(config, where)
    # The bundle that it started from is not needed any more.
    Path(config.start_from).unlink()
    resumed, second = run(config, where, resume_from=where.run)
    assert second.losses == listener.losses[4:]
    expected, found = read_bundle(whole.bundle_path), read_bundle(resumed.bundle_path)
    assert all(torch.equal(found.lora[key], value) for key, value in expected.lora.items())
    assert all(
        torch.equal(found.embeddings[name]["clip_l"], item["clip_l"]) for name, item in expected.embeddings.items()
    )


@pytest.mark.parametrize("what", ["bundle", "state"])
def test_a_third_name_can_be_added_to_two(config, tmp_path, what):
    where = folders(tmp_path, "second")
    second, _ = run(config, where)
    start = second.bundle_path if what == "bundle" else where.run / "states" / "state-000012.safetensors"
    third = replace(
        config, concepts=(Concept("tuk_z", vectors=1, aliases=("left",)),), start_from=str(start), output_name="three"
    )
    outcome, _ = run(third, folders(tmp_path, "third"))
    before, after = read_bundle(second.bundle_path), read_bundle(outcome.bundle_path)
    assert set(after.embeddings) == {"zog_x", "mib_y", "tuk_z"}
    for name in ("zog_x", "mib_y"):
        assert torch.equal(after.embeddings[name]["clip_l"], before.embeddings[name]["clip_l"])


def _batch_of(config, tmp_path):
    setup = prepare(
        config,
        ToyModel(),
        cache=tmp_path / "cache",
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )
    (batch,) = setup.keeper.batches(3, setup.batcher.step(3))
    return setup, batch


def test_the_extra_items_have_an_old_name_for_the_new_one(config, tmp_path):
    for path in (tmp_path / "new").glob("0[03].png"):
        # The others have one size.
        path.unlink()
    setup, batch = _batch_of(replace(config, batch_size=4, accumulation=2), tmp_path)
    assert len(batch.captions) == len(batch.timesteps) == len(batch.latents) == 2
    assert all(caption.startswith("zog_x") and "mib_y" not in caption for caption in batch.captions)
    assert torch.equal(batch.weights, torch.full((2,), 4.0))
    # Their mean counts as much as that of the trained items.
    assert float(batch.weights.sum() / 8) == config.keep_names
    trained = setup.batcher.step(3)
    assert torch.equal(batch.latents, torch.stack([part.latents[0] for part in trained]))
    (again,), (later,) = (setup.keeper.batches(step, trained) for step in (3, 4))
    assert torch.equal(again.noise, batch.noise) and again.captions == batch.captions
    assert not torch.equal(later.noise, batch.noise)
    assert len(setup.keeper.batches(3, [replace(part, positions=range(1, 4)) for part in trained])) == 0


def test_negative_names_stay_negative_and_captions_do_not_get_them(tmp_path):
    config = _adding(tmp_path, concepts=(Concept("zog_x", vectors=3, negative_vectors=2),), batch_size=6, steps=2)
    outcome, _ = run(config, folders(tmp_path))
    before, after = read_bundle(Path(config.start_from)), read_bundle(outcome.bundle_path)
    for name in ("zog_x", "neg_zog_x"):
        assert torch.equal(after.embeddings[name]["clip_l"], before.embeddings[name]["clip_l"])
    own = json.loads(after.metadata["pivotal_bundle"])["embeddings"]
    assert {name: facts.get("negative_of") for name, facts in own.items()} == {
        "mib_y": None, "zog_x": None, "neg_zog_x": "zog_x",
    }  # fmt: skip
    card = json.loads(outcome.bundle_path.with_suffix(".json").read_text())
    assert (card["activation text"], card["negative text"]) == ("mib_y, zog_x", "neg_zog_x")
    assert after.metadata["modelspec.trigger_phrase"] == card["activation text"]
    setup, _ = _batch_of(config, tmp_path)
    captions = [
        caption
        for step in range(20)
        for batch in setup.keeper.batches(step, setup.batcher.step(step))
        for caption in batch.captions
    ]
    assert len(captions) == 20 and all(caption.startswith("zog_x") for caption in captions)


def test_the_target_is_what_the_bundle_predicted(config, tmp_path):
    setup, batch = _batch_of(config, tmp_path)
    with torch.no_grad():
        for part in setup.adapters:
            part.flat.values.mul_(3)
    with attach([*setup.adapters, *setup.teacher_adapters]):
        target = setup.target(batch.latents, batch)
        assert all(part.enabled for part in setup.adapters)
        assert not any(part.enabled for part in setup.teacher_adapters)
    model, bundle = ToyModel(), read_bundle(Path(config.start_from))
    parts = [
        AdapterSet.from_state(part, model.lora_targets(), bundle.lora, model.device) for part in ("unet", "clip_l")
    ]
    conditioner = TextConditioner(model, EmbeddingWeights.of(bundle.embeddings, model.device))
    with attach(parts), torch.no_grad():
        (text,) = conditioner.encode(batch.captions, batch.sizes)
        expected = model.predict(batch.latents, batch.timesteps, text.conditioning)
    assert torch.allclose(target, expected, atol=1e-6)


def test_without_a_lora_nothing_extra_is_computed(config, tmp_path):
    bare = replace(
        config, rank=0, text_encoder_rank=0, start_from="", keep_names=0.0, data_folder=str(tmp_path / "old")
    )
    first, _ = run(
        replace(bare, concepts=(Concept("zog_x", vectors=3),), output_name="bare"), folders(tmp_path, "bare")
    )
    config = replace(bare, keep_names=1.0, start_from=str(first.bundle_path), data_folder=str(tmp_path / "new"))
    counts = []
    for weight in (0.0, 1.0):
        model = ToyModel()
        start = config.start_from if weight else ""
        outcome, _ = run(
            replace(config, keep_names=weight, start_from=start, output_name=f"w{weight:g}"),
            folders(tmp_path, f"w{weight:g}"),
            model,
        )
        counts.append(model.predictions)
    assert counts[0] == counts[1]
    assert set(read_bundle(outcome.bundle_path).embeddings) == {"mib_y", "zog_x"}


def _problems(config, tmp_path):
    checked = check(config, bundles=tmp_path / "out", taken_names={}, tokenizer=ToyEncoder().tokenize, family="")
    return [(problem.field, problem.severity) for problem in checked.problems if problem.field == "keep_names"]


def test_what_cannot_be_kept_is_found_before_the_start(config, tmp_path):
    assert not _problems(config, tmp_path)
    assert _problems(replace(config, start_from=""), tmp_path) == [("keep_names", "error")]
    clash = replace(config, concepts=(Concept("Zog_x", vectors=3),))
    assert _problems(clash, tmp_path) == [("keep_names", "error")]
    same = replace(config, concepts=(Concept("zog_x", vectors=3),))
    assert _problems(same, tmp_path) == [("keep_names", "warning")]
    with pytest.raises(ConfigError):
        run(replace(config, start_from=""), folders(tmp_path))
