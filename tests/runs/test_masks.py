"""Masks: from the file to the loss of a step, and what Check says about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.latents import encode_all
from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.lora.adapter_set import attach
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.batch_loss import batch_loss
from lib_pivotal.core.train.batches import Batcher, latent_entries
from lib_pivotal.core.train.setup import prepare
from lib_pivotal.core.train.state import load_newest
from tests.runs.harness import folders, run, stopped_run
from tests.unit.dataset_files import problems_of, save_image, texts, write_captions
from tests.unit.toy import ToyModel, ToyVae, toy_config, write_images

TURN = 0x0112


def save_mask(path: Path, size=(64, 64), left: int = 255, right: int = 0, **options) -> Path:
    """A gray image whose left half differs from its right half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0]), right, np.uint8)
    pixels[:, : size[0] // 2] = left
    Image.fromarray(pixels).save(path, **options)
    return path


def mask_images(folder: Path, gray: int = 255) -> None:
    """Give each image of a folder a -masklabel file of one gray level."""
    for path in sorted(folder.glob("*.png")):
        Image.new("L", Image.open(path).size, gray).save(folder / f"{path.stem}-masklabel.png")


def cells(folder: Path, **changes) -> np.ndarray:
    """The weights of the only image in a folder, without floor."""
    settings = {"data_folder": str(folder), "resolution": 64, "masks": "masklabel", **changes}
    (image,) = read_dataset(TrainConfig(**settings)).images
    assert not image.flaws
    return image.mask.cells


def batcher_of(folder: Path, **changes) -> Batcher:
    config = toy_config(folder, **{"masks": "masklabel", "mask_floor": 0.1, "unmasked_share": 0.0, **changes})
    images = read_dataset(config).usable
    entries = latent_entries(images, config.resolution, flip=config.flip)
    items = encode_all(
        entries, ToyVae(), batch_size=4, folder=None, progress=lambda *_: None, stopped=lambda: False
    )  # fmt: skip
    return Batcher(images, entries, items, config, timestep_count=1000, device=torch.device("cpu"))


# -- weights


def test_a_masked_out_half_counts_a_tenth(tmp_path):
    save_image(tmp_path / "a.png")
    save_mask(tmp_path / "a-masklabel.png")
    (batch,) = batcher_of(tmp_path).step(0)
    assert batch.masks.shape == (2, 1, 8, 8)
    assert torch.equal(batch.masks[0, 0, :, :4], torch.ones(8, 4))
    assert torch.equal(batch.masks[0, 0, :, 4:], torch.full((8, 4), 0.1))
    model = ToyModel()
    objective = Objective(
        model.alphas_cumprod, is_v_prediction=False, weighting="none", min_snr_gamma=0.0, device=model.device
    )
    prediction = batch.noise.clone()
    prediction[:, :, :, 4:] += 1.0
    losses = objective.losses(prediction, batch.latents, batch.noise, batch.timesteps, batch.masks)
    # Errors of 1 in the half that weighs 0.1: 0.1 / (1 + 0.1).
    assert losses.tolist() == pytest.approx([1 / 11] * 2)


def test_gray_levels_are_averaged_over_latent_cells(tmp_path):
    save_image(tmp_path / "a.png")
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:, :2] = 255
    pixels[8:16, 8:16] = 51
    Image.fromarray(pixels).save(tmp_path / "a-masklabel.png")
    found = cells(tmp_path)
    assert found.shape == (8, 8)
    assert found[0, 0] == pytest.approx(0.25) and found[1, 1] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("changes", "left", "right"),
    [
        ({}, 127 / 255, 191 / 255),
        ({"invert_masks": True}, 128 / 255, 64 / 255),
        ({"mask_scale": "hcp"}, 1.0, 1 + 63 * 4 / 127),
        ({"mask_scale": "hcp", "invert_masks": True}, 1.0, 64 / 127),
    ],
)
def test_gray_levels_become_weights_by_the_scale(tmp_path, changes, left, right):
    save_image(tmp_path / "a.png")
    save_mask(tmp_path / "a-masklabel.png", left=127, right=191)
    found = cells(tmp_path, **changes)
    assert found[0, 0] == pytest.approx(left) and found[0, 7] == pytest.approx(right)


def test_transparency_is_a_mask(tmp_path):
    pixels = np.full((64, 128, 4), 255, np.uint8)
    pixels[:, :64, 3] = 0
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    found = cells(tmp_path, masks="alpha")
    assert not found[:, : found.shape[1] // 2].any() and (found[:, found.shape[1] // 2 :] == 1).all()
    found = cells(tmp_path, masks="alpha", invert_masks=True, mask_scale="hcp")
    assert (found[:, : found.shape[1] // 2] == 1).all()


def test_images_that_are_known_from_an_earlier_check_keep_transparency_and_masks(tmp_path):
    image = Image.new("RGBA", (64, 64), (9, 9, 9, 255))
    image.paste((9, 9, 9, 0), (0, 0, 32, 64))
    image.save(tmp_path / "a.png")
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(tmp_path / "b.png")
    config = TrainConfig(data_folder=str(tmp_path), resolution=64, masks="alpha")
    first, second = (read_dataset(config, cache=tmp_path / ".cache").images for _ in range(2))
    assert first == second
    assert second[0].transparency == 0.5 and np.array_equal(first[0].mask.cells, second[0].mask.cells)
    assert [flaw.reason for flaw in second[1].flaws] == ["is fully transparent"]


# -- geometry


def test_masks_are_turned_cropped_and_mirrored_like_their_images(tmp_path):
    exif = Image.Exif()
    exif[TURN] = 6
    # Stored 40 × 200, shown 200 × 40: longer than 4:1, so the ends are cropped.
    image = np.zeros((200, 40, 3), np.uint8)
    image[60:100] = 255
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(image[:, :, 0]).save(tmp_path / "a-masklabel.png", exif=exif)
    batcher = batcher_of(tmp_path, flip=True, batch_size=8, resolution=128)
    batches = [batcher.step(number)[0] for number in range(3)]
    latents, masks = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("latents", "masks"))
    assert latents.shape[-1] == 4 * latents.shape[-2]
    # The toy's latents are the brightness of the cells.
    bright = latents[:, :3].mean(1, keepdim=True) / 1.5
    assert torch.allclose((bright + 1) / 2, masks, atol=0.15)
    assert {bool(mask[0, 0, 12] == 1) for mask in masks} == {True, False}, "mirrored and not"


def test_a_mask_of_another_size_covers_the_whole_image(tmp_path):
    save_image(tmp_path / "a.png", (256, 128))
    save_mask(tmp_path / "a-masklabel.png", (32, 16))
    found = cells(tmp_path)
    assert (found[:, : found.shape[1] // 2] == 1).all() and not found[:, found.shape[1] // 2 :].any()


# -- what is outside


def test_outside_a_mask_the_loss_is_the_distance_from_the_prediction_without_the_lora(tmp_path):
    save_image(tmp_path / "a.png")
    save_mask(tmp_path / "a-masklabel.png")
    (batch,) = batcher_of(tmp_path, mask_floor=0.0).step(0)
    model = ToyModel()
    objective = Objective(
        model.alphas_cumprod, is_v_prediction=False, weighting="none", min_snr_gamma=0.0, device=model.device
    )
    prediction, unchanged = batch.noise.clone(), torch.zeros_like(batch.noise)
    prediction[:, :, :, :4] += 1.0
    prediction[:, :, :, 4:] = 0.5
    # Errors of 1 inside; outside 0.25, three times. That the prediction is not the noise has no effect there.
    assert batch_loss(objective, prediction, batch, 1.0, None, unchanged, 3.0).item() == pytest.approx(1 + 3 * 0.25)
    assert batch_loss(objective, prediction, batch, 1.0, None).item() == pytest.approx(1.0)


def test_only_steps_with_masks_and_a_lora_cost_another_prediction(tmp_path):
    write_images(tmp_path / "data")
    mask_images(tmp_path / "data")
    counts = []
    for number, changes in enumerate(
        ({}, {"mask_prior": 1.0}, {"mask_prior": 1.0, "masks": "none"}, {"mask_prior": 1.0, "lora_start": 0.5})
    ):
        model = ToyModel()
        config = toy_config(tmp_path / "data", **{"masks": "masklabel", "steps": 4, "batch_size": 1, **changes})
        run(config, folders(tmp_path, f"run-{number}"), model)
        counts.append(model.predictions)
    assert counts == [4, 8, 4, 6]


def test_the_prediction_outside_has_the_embeddings_of_the_step_but_no_lora(tmp_path):
    write_images(tmp_path / "data")
    mask_images(tmp_path / "data")
    model = ToyModel()
    config = toy_config(tmp_path / "data", masks="masklabel", mask_prior=1.0)
    setup = prepare(
        config, model, cache=tmp_path, group=SingleProcess(), progress=lambda *_: None, stopped=lambda: False
    )
    (batch, *_) = setup.batcher.step(0)
    noisy = setup.objective.noisy(batch.latents, batch.noise, batch.timesteps)
    before = setup.without_lora(noisy, batch)
    with torch.no_grad():
        for part in setup.adapters:
            part.flat.values.add_(0.1)
    with attach(setup.adapters):
        assert torch.equal(setup.without_lora(noisy, batch), before)
        with torch.no_grad():
            for table in setup.tables.values():
                table.weight.add_(0.5)
        changed = setup.without_lora(noisy, batch)
    assert not torch.allclose(changed, before, atol=1e-3) and not changed.requires_grad


def test_keeping_the_outside_is_refused_with_negative_embeddings_and_pointless_without_masks_or_lora(tmp_path):
    concept = Concept("zog_x", init_text="teal thing", negative_vectors=2)
    write_images(tmp_path)
    found = problems_of(tmp_path, concepts=(concept,), mask_prior=1.0)
    assert [problem.is_error for problem in found if problem.field == "mask_prior"] == [False, True]
    bare = texts(problems_of(tmp_path, concepts=(Concept("zog_x"),), mask_prior=1.0, rank=0), "warning")
    assert any("this run has none" in text for text in bare)


# -- where masks are


def test_masks_have_the_names_of_their_images_in_a_mask_folder(tmp_path):
    data, masks = tmp_path / "data", tmp_path / "data" / "masks"
    for name in ("a", "sub/b", "sub/c", "other/c"):
        save_image(data / f"{name}.png")
    for name in ("A.webp", "sub/b.png", "c.png", "nobody.png"):
        save_mask(masks / name)
    config = TrainConfig(data_folder=str(data), masks="folder", mask_folder=str(masks), resolution=64)
    report = read_dataset(config)
    # Which c the mask without a subfolder belongs to is not clear.
    assert [(image.shown, image.mask is not None) for image in report.images] == [
        ("a.png", True),
        ("other/c.png", False),
        ("sub/b.png", True),
        ("sub/c.png", False),
    ]
    assert report.unused == {"mask without an image": 2}
    # Masks do not become images when they are switched off.
    problems = problems_of(data, mask_folder=str(masks))
    assert not any("masks/" in str(problem) for problem in problems if problem.field != "mask_folder")
    assert [problem.message for problem in problems if problem.field == "mask_folder"] == [
        "The mask folder is not used."
    ]


def test_in_a_mask_folder_the_red_channel_counts_and_elsewhere_the_brightness(tmp_path):
    save_image(tmp_path / "data" / "a.png")
    for path in (tmp_path / "masks" / "a.png", tmp_path / "data" / "a-masklabel.png"):
        save_image(path, color=(255, 0, 0))
    assert cells(tmp_path / "data", masks="folder", mask_folder=str(tmp_path / "masks")).mean() == 1
    assert cells(tmp_path / "data").mean() == pytest.approx(76 / 255)
    assert cells(
        tmp_path / "data", masks="folder", mask_folder=str(tmp_path / "masks"), mask_scale="hcp"
    ).mean() == pytest.approx(76 / 127)


@pytest.mark.parametrize(
    ("folder", "words"),
    [("", "No mask folder is given"), ("gone", "does not exist"), ("data", "contains the images, too")],
)
def test_a_mask_folder_that_cannot_be_used_is_an_error(tmp_path, folder, words):
    write_captions(tmp_path / "data", "zog")
    found = problems_of(tmp_path / "data", masks="folder", mask_folder=folder and str(tmp_path / folder))
    (problem,) = [problem for problem in found if problem.is_error]
    assert problem.field == "mask_folder" and words in problem.message


def test_each_folder_of_a_data_set_can_have_its_own_masks(tmp_path):
    for name in ("data", "more", "plain", "rest"):
        save_image(tmp_path / name / f"{name}.png")
        save_mask(tmp_path / name / f"{name}-masklabel.png")
    save_mask(tmp_path / "masks" / "more.png", left=51)
    config = TrainConfig(
        data_folder=str(tmp_path / "data"),
        resolution=64,
        masks="masklabel",
        subsets=(
            Subset(str(tmp_path / "more"), masks="folder", mask_folder=str(tmp_path / "masks")),
            Subset(str(tmp_path / "plain"), masks="none"),
            Subset(str(tmp_path / "rest"), kind="regularization"),
        ),
    )
    first, second, third, fourth = read_dataset(config).images
    assert (first.mask.cells.max(), second.mask.cells.max()) == pytest.approx((1.0, 0.2))
    assert third.mask is fourth.mask is None


def test_images_without_a_mask_are_trained_as_a_whole(tmp_path):
    save_image(tmp_path / "a.png")
    save_image(tmp_path / "b.png", color=(90, 90, 90))
    save_mask(tmp_path / "a-masklabel.png")
    masks = torch.cat([batch.masks for number in range(4) for batch in batcher_of(tmp_path).step(number)])
    assert {round(float(mask.mean()), 3) for mask in masks} == {1.0, 0.55}


# -- runs


def result(config: TrainConfig, where) -> tuple[list[float], dict[str, torch.Tensor]]:
    _, listener = run(config, where)
    return listener.losses, load_newest(where.run / "states").tensors


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_white_masks_give_bit_for_bit_what_no_masks_give(tmp_path, share):
    write_images(tmp_path / "data")
    changes = {"flip": True, "batch_size": 3}
    plain = result(toy_config(tmp_path / "data", **changes), folders(tmp_path, "plain"))
    mask_images(tmp_path / "data")
    changes |= {"masks": "masklabel", "unmasked_share": share}
    masked = result(toy_config(tmp_path / "data", **changes), folders(tmp_path, "masked"))
    assert masked[0] == plain[0]
    assert masked[1].keys() == plain[1].keys()
    assert all(torch.equal(masked[1][key], plain[1][key]) for key in plain[1])


def test_masks_change_captions_and_noise_of_no_step(tmp_path):
    write_images(tmp_path)
    mask_images(tmp_path, 60)
    plain, masked = (
        batcher_of(tmp_path, masks=masks, unmasked_share=0.5, flip=True) for masks in ("none", "masklabel")
    )
    for number in range(6):
        (one,), (two,) = plain.step(number), masked.step(number)
        assert one.captions == two.captions and one.masks is None
        assert torch.equal(one.latents, two.latents) and torch.equal(one.noise, two.noise)


def test_a_share_of_the_samples_is_trained_without_mask(tmp_path):
    save_image(tmp_path / "a.png")
    save_mask(tmp_path / "a-masklabel.png", right=102)
    batcher = batcher_of(tmp_path, unmasked_share=0.3, batch_size=10)
    masks = torch.cat([batcher.step(number)[0].masks for number in range(60)])
    whole = masks.mean(dim=(1, 2, 3)) == 1
    assert 0.25 < float(whole.float().mean()) < 0.35
    assert masks[~whole].mean() == pytest.approx(0.7)


def test_a_stopped_run_with_masks_continues_exactly(tmp_path):
    write_images(tmp_path / "data")
    for path in sorted((tmp_path / "data").glob("*.png")):
        save_mask(tmp_path / "data" / f"{path.stem}-masklabel.png", Image.open(path).size)
    config = toy_config(tmp_path / "data", masks="masklabel", unmasked_share=0.5)
    losses, straight = result(config, folders(tmp_path, "straight"))
    where = folders(tmp_path, "stopped")
    _, before = stopped_run(config, where)
    _, after = run(config, where, resume_from=where.run)
    assert before.losses + after.losses == losses
    resumed = load_newest(where.run / "states").tensors
    assert all(torch.equal(resumed[key], straight[key]) for key in straight)


def test_the_digest_of_the_data_knows_masks_that_are_on(tmp_path):
    save_image(tmp_path / "a.png")
    digests = {masks: read_dataset(TrainConfig(data_folder=str(tmp_path), masks=masks)).digest() for masks in ("none",)}
    for right in (0, 99):
        save_mask(tmp_path / "a-masklabel.png", right=right)
        for masks in ("none", "masklabel"):
            digests[f"{masks} {right}"] = read_dataset(
                TrainConfig(data_folder=str(tmp_path), masks=masks)
            ).digest()  # fmt: skip
    assert digests["none"] == digests["none 0"] == digests["none 99"]
    assert len(set(digests.values())) == 3


# -- findings


def mask_texts(folder: Path, **changes) -> list[str]:
    found = problems_of(folder, **{"masks": "masklabel", **changes})
    return [problem.message for problem in found if problem.field in ("masks", "mask_floor", "unmasked_share")]


def test_masks_that_are_not_used_are_reported(tmp_path):
    write_captions(tmp_path, "zog", "zog, left")
    save_mask(tmp_path / "a0-masklabel.png")
    (text,) = mask_texts(tmp_path, masks="none")
    assert text == "Masks are off for 1 image with a -masklabel file."
    save_mask(tmp_path / "b-masklabel.png")
    assert any("1 mask without an image" in text for text in texts(problems_of(tmp_path, masks="masklabel"), "warning"))


@pytest.mark.parametrize(
    ("size", "left", "right", "words"),
    [
        ((64, 64), 0, 0, "leaves out the whole image"),
        ((64, 64), 255, 255, "leaves out nothing"),
        ((64, 60), 255, 0, "The aspect ratio of the mask"),
        ((320, 320), 255, 0, ""),
        ((640, 636), 255, 0, ""),
    ],
)
def test_check_names_masks_that_are_probably_wrong(tmp_path, size, left, right, words):
    write_captions(tmp_path, "zog")
    save_mask(tmp_path / "a0-masklabel.png", size, left, right)
    found = mask_texts(tmp_path)
    assert len(found) == bool(words)
    assert all(words in text and "a0.png" in text for text in found)


def test_a_mask_that_leaves_nothing_to_learn_is_an_error_without_a_floor(tmp_path):
    write_captions(tmp_path, "zog")
    mask_images(tmp_path, 0)
    assert not texts(problems_of(tmp_path, masks="masklabel", mask_floor=0.1))
    assert "leaves out the whole image" in texts(problems_of(tmp_path, masks="masklabel"))[0]


def test_check_names_colored_and_missing_masks_and_details_that_vanish(tmp_path):
    write_captions(tmp_path, "zog", "zog, left", "zog, right")
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32] = (200, 40, 40)
    Image.fromarray(pixels).save(tmp_path / "a0-masklabel.png")
    lines = np.zeros((64, 64), np.uint8)
    lines[2::8] = 255
    Image.fromarray(lines).save(tmp_path / "a1-masklabel.png")
    found = mask_texts(tmp_path)
    for words in ("The mask is colored: a0.png", "too fine to have an effect: a1.png", "No mask: a2.png"):
        assert [words in text for text in found].count(True) == 1
    (text,) = [text for text in mask_texts(tmp_path, masks="alpha") if "nothing is transparent" in text]
    assert "a0.png, a1.png, a2.png" in text


def test_settings_that_make_masks_useless_are_reported(tmp_path):
    write_captions(tmp_path, "zog")
    save_mask(tmp_path / "a0-masklabel.png")
    assert mask_texts(tmp_path, mask_floor=1.0) == ["With 1, masks have no effect."]
    assert mask_texts(tmp_path, unmasked_share=1.0) == ["With 1, masks have no effect."]
    assert not mask_texts(tmp_path)


def test_a_mask_that_cannot_be_decoded_is_an_error_that_names_it(tmp_path):
    write_captions(tmp_path, "zog", "zog, left")
    save_mask(tmp_path / "a0-masklabel.png")
    data = (tmp_path / "a0-masklabel.png").read_bytes()
    (tmp_path / "a0-masklabel.png").write_bytes(data[: len(data) // 2])
    (text,) = texts(problems_of(tmp_path, masks="masklabel"))
    assert "The image a0.png has a mask " in text and "a0-masklabel.png that is damaged" in text
    assert not texts(problems_of(tmp_path))
