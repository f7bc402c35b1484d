"""Validation: which images are held out, what is measured, and that the training does not notice."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.latent_store import LatentItem
from lib_pivotal.core.data.mask import Mask
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.validation_images import MAX_MEASURED, hold_out, images_to_measure
from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.events import StepDone, Validated
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.batches import Batch, latent_entries
from lib_pivotal.core.train.recorder import read_validation
from lib_pivotal.core.train.setup import prepare
from lib_pivotal.core.train.state import load_newest
from lib_pivotal.core.train.training_data import ValidationData
from lib_pivotal.core.train.validation import Validation, validation_batches
from tests.runs.harness import Listener, folders, run, stopped_run
from tests.unit.dataset_files import problems_of, save_image, texts, write_captions
from tests.unit.toy import ToyModel, toy_config, write_images

CONCEPTS = (Concept("zog_x"), Concept("mib_x"))


def image(name: str, caption: str = "zog_x, hat", folder: str = "data") -> DatasetImage:
    return DatasetImage(Path(folder, name), caption, 1.0, 64, 64, name, sha256=f"{random.Random(name).random():.16f}")


def held_out(images, share: float, copies=()) -> set[str]:
    config = TrainConfig(concepts=CONCEPTS, validation_share=share)
    result = hold_out(images, copies, config)
    assert [item.path for item in result] == [item.path for item in images]
    return {item.path.name for item in result if item.subset.kind == "validation"}


# -- which images


@pytest.mark.parametrize("count", [2, 3, 5, 7, 8, 30, 100])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_some_are_held_out_and_some_are_trained(count, share):
    found = held_out([image(f"{index}.png") for index in range(count)], share)
    assert len(found) == max(1, min(int(share * count + 0.5), count - 7))


def test_nothing_is_held_out_by_default_or_of_a_single_image():
    images = [image(f"{index}.png") for index in range(30)]
    assert not held_out(images, 0.0)
    assert not held_out(images[:1], 0.5)


@pytest.mark.parametrize("count", [3, 7, 8, 12, 29, 30, 31])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_new_image_moves_at_most_one(count, share):
    before = [image(f"{index}.png") for index in range(count)]
    for number in range(40):
        new = image(f"new{number}.png")
        moved = held_out(before, share) ^ (held_out([*before, new], share) - {new.path.name})
        assert len(moved) <= 1


def test_duplicates_frames_and_mirror_images_stay_together():
    images = [image(f"{index}.png") for index in range(12)]
    images += [image(f"scene_{index:04d}.png") for index in range(3)]
    images += [image("5-flip.png"), image("copy.png"), image("copy of the copy.png")]
    copies = [(images[6], images[-2]), (images[-2], images[-1])]
    together = [{"5.png", "5-flip.png"}, {"6.png", "copy.png", "copy of the copy.png"}]
    together += [{f"scene_{index:04d}.png" for index in range(3)}]
    for seed in range(30):
        mixed = [
            dataclasses.replace(item, sha256=f"{random.Random(f'{seed}{item.shown}').random()}") for item in images
        ]
        found = held_out(mixed, 0.3, copies)
        assert found and all(group <= found or not group & found for group in together)


def test_numbered_images_of_a_whole_folder_are_no_frames():
    assert len(held_out([image(f"zog_{index:04d}.png") for index in range(20)], 0.2)) == 4


def test_every_concept_with_enough_images_is_measured_and_no_other():
    many = [image(f"z{index}.png") for index in range(40)]
    few = [image(f"m{index}.png", "mib_x, tree") for index in range(7)]
    both = [image(f"b{index}.png", "zog_x, mib_x") for index in range(9)]
    assert all(name.startswith("z") for name in held_out([*many, *few], 0.1))
    assert any(name[0] in "bm" for name in held_out([*many, *few, *both], 0.1))
    assert all(name[0] == "z" for name in held_out([*many, *both[:7]], 0.5)), "the second has only these seven"
    some = [image(f"m{index}.png", "mib_x, tree") for index in range(8)]
    assert len([name for name in held_out([*many, *some], 0.01) if name.startswith("m")]) == 1


def test_regularization_images_are_never_held_out():
    other = Subset("reg", kind="regularization")
    images = [dataclasses.replace(image(f"{index}.png"), subset=other) for index in range(20)]
    assert not held_out(images, 0.5)


def measured(images, copies=()) -> list[str]:
    return [item.path.name for item in images_to_measure(images, copies, TrainConfig(concepts=CONCEPTS))]


def as_validation(*images: DatasetImage) -> list[DatasetImage]:
    return [dataclasses.replace(item, subset=Subset("v", kind="validation")) for item in images]


def test_a_copy_of_a_trained_image_is_not_measured():
    trained, (copy, other) = image("t.png"), as_validation(image("c.png"), image("o.png"))
    assert measured([trained, copy, other], [(trained, copy)]) == ["o.png"]


def test_images_without_a_concept_are_measured_only_if_there_are_no_others():
    plain, named = as_validation(image("p.png", "tree"), image("n.png"))
    assert measured([plain, named]) == ["n.png"]
    assert measured([plain]) == ["p.png"]


def test_the_number_of_measured_images_is_limited_and_every_concept_is_among_them():
    images = as_validation(*(image(f"z{index}.png") for index in range(300)))
    images += as_validation(*(image(f"m{index}.png", "mib_x") for index in range(4)))
    found = measured(images)
    assert len(found) == MAX_MEASURED and sum(name.startswith("m") for name in found) == 4


# -- findings


def test_check_says_which_images_are_held_out(tmp_path):
    write_captions(tmp_path, *["zog_x, hat"] * 10)
    found = texts(problems_of(tmp_path, concepts=CONCEPTS[:1], validation_share=0.2), "warning")
    (text,) = [text for text in found if text.startswith("validation_share")]
    names = [image.shown for image in read_dataset(
        TrainConfig(data_folder=str(tmp_path), concepts=CONCEPTS[:1], validation_share=0.2)
    ).images if image.subset.kind == "validation"]  # fmt: skip
    assert "2 validation images are not trained" in text and len(names) == 2 and all(name in text for name in names)


def test_check_says_when_nothing_can_be_held_out_or_measured(tmp_path):
    write_captions(tmp_path / "data", "zog_x, hat")
    found = texts(problems_of(tmp_path / "data", concepts=CONCEPTS[:1], validation_share=0.2), "warning")
    assert any(text.startswith("validation_share: There are too few images") for text in found)
    save_image(tmp_path / "val" / "plain.png", color=(1, 1, 1))
    save_image(tmp_path / "val" / "named.png", color=(2, 1, 1))
    (tmp_path / "val" / "named.txt").write_text("zog_x")
    subsets = (Subset(str(tmp_path / "val"), kind="validation"),)
    found = texts(problems_of(tmp_path / "data", concepts=CONCEPTS[:1], subsets=subsets), "warning")
    assert any("Not measured: " in text and "plain.png" in text and "named.png" not in text for text in found)


def test_a_concept_only_in_validation_images_would_not_be_trained(tmp_path):
    write_captions(tmp_path / "data", "zog_x, hat")
    save_image(tmp_path / "val" / "m.png", color=(1, 1, 1))
    (tmp_path / "val" / "m.txt").write_text("mib_x")
    subsets = (Subset(str(tmp_path / "val"), kind="validation"),)
    found = texts(problems_of(tmp_path / "data", concepts=CONCEPTS, subsets=subsets))
    assert [text.partition(":")[0] for text in found] == ["concepts[1].name"]


# -- measuring


def validation_data(*images: DatasetImage) -> ValidationData:
    images = as_validation(*images)
    item = LatentItem(torch.ones(2, 4, 8, 8))
    return ValidationData(images, latent_entries(images, 64, flip=False), [item] * len(images))


VALIDATION = Subset("val", kind="validation")


@pytest.fixture
def sets(tmp_path, monkeypatch) -> Path:
    """Folders data (6 images) and val (3 others), in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "data")
    write_images(tmp_path / "all", 9)
    for index in (6, 7, 8):
        (tmp_path / "val").mkdir(exist_ok=True)
        for suffix in (".png", ".txt"):
            (tmp_path / "all" / f"{index:02d}{suffix}").rename(tmp_path / "val" / f"{index:02d}{suffix}")
    return tmp_path


def config_of(**changes) -> TrainConfig:
    return toy_config(
        Path("data"), **{"subsets": (VALIDATION,), "validate_every": 3, "text_encoder_rank": 2, **changes}
    )


def validation_of(config: TrainConfig) -> Validation | None:
    return prepare(
        config,
        ToyModel(),
        cache=Path("cache"),
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    ).validation


def test_it_happens_before_the_first_step_every_n_and_after_the_last(sets):
    _, seen = run(config_of(steps=8), folders(sets))
    assert [event.step for event in seen.of(Validated)] == [0, 3, 6, 8]
    order = [(type(event), event.step) for event in seen.events if isinstance(event, (StepDone, Validated))]
    assert order.index((Validated, 3)) == order.index((StepDone, 3)) + 1
    _, seen = run(config_of(steps=6, validate_every=0), folders(sets, "ends"))
    assert [event.step for event in seen.of(Validated)] == [0, 6]


def test_measuring_again_gives_the_same_numbers_and_changes_no_random_state(sets):
    validation = validation_of(config_of())
    states = torch.get_rng_state(), random.getstate()
    first = validation.measure()
    assert first == validation.measure() and set(first) == {"caption", "name_only", "initialization"}
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    other = validation_of(config_of(seed=5)).measure()
    assert first["initialization"] == other["initialization"], "runs with other seeds can be compared"


@pytest.mark.parametrize("changes", [{}, {"lora_start": 0.5}, {"unet_lr": 0.0, "concepts": ()}])
def test_the_training_is_the_same_bit_for_bit(sets, changes):
    config = config_of(steps=9, **changes)
    run(dataclasses.replace(config, subsets=()), folders(sets, "without"))
    run(config, folders(sets, "with"))
    a, b = (load_newest(sets / name / "states").tensors for name in ("without", "with"))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_held_out_images_are_never_trained(sets):
    write_images(sets / "many", 12)
    seen = set()

    config = config_of(data_folder="many", subsets=(), validation_share=0.25, steps=30, name_only=0.0,
                       caption_dropout=0.0, tag_dropout=0.0)  # fmt: skip
    setup = prepare(config, ToyModel(), cache=Path("cache"), group=SingleProcess(), progress=lambda *_: None,
                    stopped=lambda: False)  # fmt: skip
    for step in range(30):
        for batch in setup.batcher.step(step):
            seen |= {tag for caption in batch.captions for tag in caption.split(", ") if tag.startswith("tag ")}
    left_out = {
        image.caption.split(", ")[1] for image in read_dataset(config).images if image.subset.kind == "validation"
    }
    assert len(left_out) == 3 and not seen & left_out and len(seen) == 9 == setup.image_count


def test_captions_are_whole_or_the_name_or_the_initialization_text(sets):
    data = validation_data(*(dataclasses.replace(image(f"{n}.png"), caption="tree, teal, a hat") for n in range(3)))

    def captions(concept: Concept) -> dict[str, set[str]]:
        config = toy_config(Path("data"), concepts=(concept,), tag_dropout=0.9, caption_dropout=0.5)
        batches = validation_batches(data, [image("a.png", "zog_x, tree")], config, 1000, torch.device("cpu"))
        return {kind: {text for batch in found for text in batch.captions} for kind, found in batches.items()}

    named = Concept("zog_x", init_text="small thing", aliases=("teal",))
    assert captions(named) == {
        "caption": {"zog_x, tree, a hat"}, "name_only": {"zog_x"}, "initialization": {"small thing, tree, a hat"}
    }  # fmt: skip
    assert set(captions(dataclasses.replace(named, init_text=""))) == {"caption", "name_only"}
    pruned = captions(dataclasses.replace(named, core_tags=("a hat",)))
    assert pruned["caption"] == {"zog_x, tree"} and pruned["initialization"] == {"small thing, tree"}
    assert set(captions(dataclasses.replace(named, aliases=()))) == {"caption"}


def test_masked_parts_do_not_count(sets):
    cells = np.ones((8, 8), np.float32)
    cells[:, :4] = 0.0
    half = dataclasses.replace(image("a.png"), mask=Mask(cells, "a"))

    def loss(*images: DatasetImage, wrong_from: int, wrong_to: int, floor: float) -> float:
        config = toy_config(Path("data"), concepts=CONCEPTS, mask_floor=floor, loss_weighting="none")
        batches = validation_batches(validation_data(*images), [], config, 1000, torch.device("cpu"))

        def predict(_noisy: torch.Tensor, batch: Batch) -> torch.Tensor:
            prediction = batch.noise.clone()
            prediction[..., wrong_from:wrong_to] += 1.0
            return prediction

        objective = Objective(torch.linspace(0.99, 0.01, 1000), is_v_prediction=False, weighting="none",
                              min_snr_gamma=0.0, device=torch.device("cpu"))  # fmt: skip
        return Validation(batches, ToyModel(), predict, objective).measure()["caption"]

    assert loss(half, wrong_from=0, wrong_to=4, floor=0.0) == 0.0
    assert loss(half, wrong_from=4, wrong_to=8, floor=0.0) == pytest.approx(1.0)
    assert loss(half, wrong_from=0, wrong_to=4, floor=0.25) == pytest.approx(0.2)
    whole = image("b.png")
    assert loss(half, whole, wrong_from=0, wrong_to=4, floor=0.0) == pytest.approx(0.25), "the other one has no mask"


def test_numbers_are_in_a_table_that_resumes(sets):
    config = config_of(steps=9)
    run(config, folders(sets, "whole"))
    where = folders(sets, "parts")
    stopped_run(config, where, at=4)
    assert [row["step"] for row in read_validation(where.run)] == [0, 3]
    run(config, where, resume_from=where.run)
    assert read_validation(where.run) == read_validation(sets / "whole")
    assert [row["step"] for row in read_validation(where.run)] == [0, 3, 6, 9]
    assert set(read_validation(where.run)[0]) == {"step", "caption", "name_only", "initialization"}
    _, seen = run(dataclasses.replace(config, subsets=()), folders(sets, "none"))
    assert not (sets / "none" / "validation.csv").exists() and not seen.of(Validated)


def test_how_often_to_measure_may_change_but_not_what_is_held_out(sets):
    where = folders(sets)
    stopped_run(config_of(steps=9, validation_share=0.2), where, at=4)
    with pytest.raises(ConfigError, match="validation_share"):
        run(config_of(steps=9, validation_share=0.4), where, resume_from=where.run)
    outcome, _ = run(config_of(steps=9, validation_share=0.2, validate_every=1), where, resume_from=where.run)
    assert outcome.outcome == "done"


def test_a_stop_does_not_wait_for_a_measurement(sets):
    _, seen = stopped_run(config_of(steps=20), folders(sets), at=4)
    assert [event.step for event in seen.of(Validated)] == [0, 3]


def test_it_falls_while_the_concept_is_learned(sets):
    config = config_of(steps=120, unet_lr=5e-3, embedding_lr=2e-2, batch_size=4, validate_every=0)
    _, seen = run(config, folders(sets), listener=Listener())
    first, last = seen.of(Validated)
    assert last.caption < 0.9 * first.caption and last.name_only < first.name_only
