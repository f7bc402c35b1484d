"""Regularization images: how often they come, what they teach, and what is reported about them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch

from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig
from lib_pivotal.core.data.class_words import class_noun
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.mixture import Mixture
from lib_pivotal.core.data.plan import Plan
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.events import Control
from lib_pivotal.core.lora.adapter_set import attach
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.prediction import CaptionPrediction
from lib_pivotal.core.train.setup import Setup, prepare
from lib_pivotal.core.train.state import load_newest
from tests.runs.harness import folders, run, stopped_run
from tests.unit.dataset_files import problems_of, save_image, texts, write_captions
from tests.unit.toy import ToyModel, toy_config, write_images

REG = Subset("reg", kind="regularization")
NAME = Concept("zog_x", init_text="teal thing", vectors=3)


@pytest.fixture
def sets(tmp_path, monkeypatch) -> Path:
    """Folders data (6 images with the name) and reg (4 without), in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "data")
    write_images(tmp_path / "reg", 4, "robot")
    return tmp_path


def setup_of(model=None, **changes) -> Setup:
    config = toy_config(Path("data"), **{"subsets": (REG,), **changes})
    return prepare(
        config,
        model or ToyModel(),
        cache=Path("cache"),
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )


# -- how often


@pytest.mark.parametrize("share", [0.05, 0.2, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("items", [1, 2, 4, 7])
def test_the_share_is_exact_to_a_sample_after_any_step(share, items):
    mixture = Mixture(
        ["a", "b"] * 8, [1] * 16, [index >= 9 for index in range(16)], share=share, items_per_step=items, seed=3
    )  # fmt: skip
    seen = 0
    for step in range(200):
        images = mixture.step(step)
        assert len(images) == items
        seen += sum(index >= 9 for index in images)
        assert abs(seen - share * items * (step + 1)) < 1
        for is_regularization in (False, True):
            assert len({index % 2 for index in images if (index >= 9) is is_regularization}) <= 1, "one bucket each"


def test_both_kinds_keep_the_proportions_of_their_repeats_and_any_step_can_be_asked_first():
    repeats = [1, 3, 1, 2]

    def mixture() -> Mixture:
        return Mixture(["a"] * 4, repeats, [False, False, True, True], share=0.25, items_per_step=4, seed=1)

    seen = Counter(index for step in range(120) for index in mixture().step(step))
    assert all(abs(seen[index] - count) <= 1 for index, count in enumerate((90, 270, 40, 80)))
    late = mixture()
    assert late.step(77) == mixture().step(77) and late.step(3) == mixture().step(3)


def test_without_regularization_images_the_order_is_the_one_of_before():
    buckets, repeats = ["a", "b", "a", "b", "b"], [1, 2, 3, 1, 1]
    plan = Plan(buckets, repeats, 3, 7)
    mixture = Mixture(buckets, repeats, [False] * 5, share=0.0, items_per_step=3, seed=7)
    assert [mixture.step(step) for step in range(40)] == [plan.step(step) for step in range(40)]


def test_batches_hold_one_bucket_and_one_target_and_all_items_of_the_step(sets):
    setup = setup_of(batch_size=4, accumulation=2, regularization_share=0.4, regularization_target="prior")
    for step in range(20):
        batches = setup.batcher.step(step)
        assert sum(len(batch.captions) for batch in batches) == setup.batcher.items_per_step == 8
        for batch in batches:
            assert len(batch.latents) == len(batch.captions)
            for caption in filter(None, batch.captions):
                assert ("zog_x" in caption) is not batch.has_prior


def test_a_step_is_the_same_however_it_is_split_into_batches(sets):
    """A mixed batch is split; its items count as if they were together."""
    options = {
        "regularization_share": 0.5,
        "shuffle_tags": False,
        "subsets": (dataclasses.replace(REG, loss_weight=3.0),),
    }
    values = []
    for batch_size, accumulation in ((4, 1), (1, 4)):
        setup = setup_of(batch_size=batch_size, accumulation=accumulation, **options)
        with attach(setup.adapters):
            loop = Loop(setup, None, lambda _: None, Control(), SingleProcess())
            for step in range(3):
                loop.train_step(step)
        values.append(setup.adapters[0].flat.values.detach().clone())
    assert torch.allclose(*values, atol=1e-5)


# -- weights


def test_weights_of_subsets_and_of_regularization_multiply_the_loss(sets):
    assert all(batch.weights is None for batch in setup_of().batcher.step(0))
    write_images(sets / "more", 2)
    subsets = (dataclasses.replace(REG, loss_weight=0.5), Subset("more", loss_weight=2.0))
    setup = setup_of(batch_size=8, regularization_weight=3.0, regularization_share=0.3, subsets=subsets)
    found = {weight for step in range(20) for batch in setup.batcher.step(step) for weight in batch.weights.tolist()}
    assert found == {1.0, 1.5, 2.0}


# -- prior


def test_the_target_is_what_the_unchanged_model_predicts(sets):
    model = ToyModel()
    setup = setup_of(model, regularization_target="prior", regularization_share=0.9)
    (batch, *_) = setup.batcher.step(1)
    assert batch.has_prior
    noisy = setup.objective.noisy(batch.latents, batch.noise, batch.timesteps)
    plain = CaptionPrediction(model, TextConditioner(model))(noisy, batch)
    with torch.no_grad():
        for part in setup.adapters:
            part.flat.values.add_(0.1)
    with attach(setup.adapters):
        target = setup.prior(noisy, batch)
        assert not torch.allclose(setup.predict(noisy, batch), plain, atol=1e-3)
        assert all(part.enabled for part in setup.adapters)
    assert torch.equal(target, plain) and not target.requires_grad


def test_with_a_prior_names_become_the_class_in_both_captions(sets):
    concepts = (dataclasses.replace(NAME, aliases=("left",), core_tags=("blue background",), class_noun="odd robot"),)
    same = (Subset("data", kind="regularization"),)
    setup = setup_of(concepts=concepts, subsets=same, regularization_target="prior", regularization_share=0.5,
                     tag_dropout=0.0, name_only=0.0, caption_dropout=0.0)  # fmt: skip
    captions = [
        caption
        for step in range(8)
        for batch in setup.batcher.step(step)
        if batch.has_prior
        for caption in batch.captions
    ]
    assert captions
    assert all(caption.startswith("odd robot") and "zog_x" not in caption for caption in captions)
    assert all("blue background" in caption for caption in captions)


def test_only_steps_with_regularization_images_cost_another_prediction(sets):
    counts = []
    for target in ("images", "prior"):
        model = ToyModel()
        config = toy_config(Path("data"), subsets=(REG,), batch_size=1, steps=10, regularization_target=target)
        run(config, folders(sets, target), model)
        counts.append(model.predictions)
    assert counts == [10, 11], "a tenth of the samples"


def test_class_noun():
    assert class_noun(Concept("a", init_text="small teal_robot, ")) == "robot"
    assert class_noun(Concept("a", init_text="small robot", class_noun=" girl ")) == "girl"
    assert class_noun(Concept("a")) == ""


# -- a run


@pytest.mark.parametrize("target", ["images", "prior"])
def test_a_stopped_and_resumed_run_equals_one_without_a_stop(sets, target):
    config = toy_config(Path("data"), subsets=(REG,), regularization_target=target, batch_size=3, steps=12)
    run(config, folders(sets, "whole"))
    where = folders(sets, "parts")
    stopped_run(config, where, at=5)
    run(config, where, resume_from=where.run)
    a, b = load_newest(sets / "whole" / "states"), load_newest(where.run / "states")
    assert all(torch.equal(a.tensors[key], b.tensors[key]) for key in a.tensors)


def test_changed_regularization_does_not_resume(sets):
    config = toy_config(Path("data"), subsets=(REG,))
    where = folders(sets)
    stopped_run(config, where)
    changed = dataclasses.replace(
        config, regularization_share=0.5, regularization_weight=2.0, regularization_target="prior"
    )
    with pytest.raises(ConfigError) as refused:
        run(changed, where, resume_from=where.run)
    assert {problem.field for problem in refused.value.problems if problem.is_error} == {
        "regularization_share", "regularization_target", "regularization_weight"
    }  # fmt: skip


def test_embeddings_alone_train_without_the_images(sets):
    setup = setup_of(rank=0)
    assert {
        caption
        for step in range(9)
        for batch in setup.batcher.step(step)
        for caption in batch.captions
        if "robot" in caption
    } == set()
    assert setup.image_count == 6


def test_they_do_not_count_as_images_of_the_run(sets):
    setup = setup_of(steps=0)
    assert setup.image_count == 6 and setup.steps == 600


# -- findings


def regularizing(folder: Path, *captions: str, **changes):
    write_captions(folder / "data", *["zog_x, hat"] * 3)
    for index, caption in enumerate(captions):
        save_image(folder / "mine" / f"r{index}.png", color=(index, 3, 3))
        (folder / "mine" / f"r{index}.txt").write_text(caption)
    subsets = (Subset(str(folder / "mine"), kind="regularization"),)
    return problems_of(folder / "data", **{"concepts": (NAME,), "subsets": subsets, **changes})


def test_counts_are_reported(tmp_path):
    found = texts(regularizing(tmp_path, "robot", "man"), "warning")
    assert any("2 regularization images make up 10% of the samples" in text for text in found)
    assert not texts(regularizing(tmp_path, "robot", "man"))


@pytest.mark.parametrize("caption", ["robot, zog_x", "Teal Hexagon, robot", "a photo of zog_x"])
def test_a_name_or_caption_tag_in_a_caption_is_an_error(tmp_path, caption):
    concepts = (dataclasses.replace(NAME, aliases=("teal hexagon",)),)
    (found,) = texts(regularizing(tmp_path, "robot", caption, concepts=concepts))
    assert "zog_x" in found and "r1.png" in found and "r0.png" not in found


def test_a_name_that_always_applies_is_an_error(tmp_path):
    subset = Subset(str(tmp_path / "mine"), kind="regularization", always=("zog_x",))
    found = texts(regularizing(tmp_path, "robot", subsets=(subset,)))
    assert [text.partition(":")[0] for text in found] == ["subsets[0].always"]


def test_a_prior_needs_a_word_for_a_name_that_is_mentioned(tmp_path):
    prior = {"regularization_target": "prior"}
    assert not texts(regularizing(tmp_path, "robot, zog_x", **prior))
    (found,) = texts(regularizing(tmp_path, "robot, zog_x", concepts=(Concept("zog_x"),), **prior))
    assert found.startswith("concepts[0].class_noun:")


def test_images_that_are_not_used_are_reported(tmp_path):
    found = texts(regularizing(tmp_path, "robot", regularization_share=0.0), "warning")
    assert any(text.startswith("regularization_share: 1 regularization image") for text in found)
    found = texts(regularizing(tmp_path, "robot", rank=0), "warning")
    assert any(text.startswith("rank: ") and "not used" in text for text in found)
    write_captions(tmp_path / "alone", "zog_x")
    found = texts(problems_of(tmp_path / "alone", concepts=(NAME,), regularization_target="prior"), "warning")
    assert any(text.startswith("regularization_target: ") for text in found)


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "mine").mkdir()
    (found,) = texts(regularizing(tmp_path))
    assert found.startswith("subsets[0].folder:") and "contains no images" in found


def test_there_must_be_images_to_train(tmp_path):
    write_captions(tmp_path / "mine", "robot")
    subsets = (Subset(str(tmp_path / "mine"), kind="regularization"),)
    found = texts(problems_of("", subsets=subsets, concepts=(NAME,)))
    assert any("no images to train" in text for text in found)


@pytest.mark.parametrize("name", ["reg", "Regularization", "1_class", "reg_images"])
def test_a_folder_that_looks_like_it_is_asked_about_and_never_assumed(tmp_path, name):
    for folder, where in ((tmp_path / "data" / name, "trained like all others"), (tmp_path / name, "not used")):
        write_captions(tmp_path / "data", *["zog_x"] * 2)
        save_image(folder / "1_man" / "m.png")
        (found,) = [
            text for text in texts(problems_of(tmp_path / "data"), "warning") if "regularization images?" in text
        ]
        assert where in found and name in found
        (folder / "1_man" / "m.png").unlink()


def test_folders_of_other_names_empty_ones_and_known_ones_are_not_asked_about(tmp_path):
    write_captions(tmp_path / "data", *["zog_x"] * 2)
    (tmp_path / "reg").mkdir()
    save_image(tmp_path / "data" / "classroom" / "c.png")
    save_image(tmp_path / "data" / "reg" / "m.png", color=(9, 9, 9))
    subsets = (Subset(str(tmp_path / "data" / "reg"), kind="regularization"),)
    assert not [text for text in texts(problems_of(tmp_path / "data", subsets=subsets), "warning") if "images?" in text]


def test_images_of_an_inner_folder_belong_to_it_alone(tmp_path):
    write_captions(tmp_path / "data", *["zog_x"] * 2)
    save_image(tmp_path / "data" / "reg" / "deep" / "m.png", color=(9, 9, 9))
    save_image(tmp_path / "data" / "reg" / "n.png", color=(9, 9, 10))
    both = [("a0.png", "train"), ("a1.png", "train"), ("n.png", "regularization")]
    for subfolders, deep in ((True, [("m.png", "regularization")]), (False, [])):
        inner = Subset(str(tmp_path / "data" / "reg"), kind="regularization", subfolders=subfolders)
        report = read_dataset(TrainConfig(data_folder=str(tmp_path / "data"), subsets=(inner,)))
        assert sorted((image.path.name, image.subset.kind) for image in report.images) == sorted([*both, *deep])
        assert report.unused.get("subfolder", 0) == (not subfolders)
