"""What transparent parts of images show, from the file to the latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.bucket_image import KeptImages, fit
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.image_file import read_image
from lib_pivotal.core.data.latents import encode_all
from lib_pivotal.core.train.batches import latent_entries
from tests.unit.dataset_files import problems_of, save_image, texts, write_captions
from tests.unit.toy import ToyVae

GREEN, RED = (0, 200, 0), (200, 0, 0)


def half_transparent(path: Path, alpha: int = 0) -> Path:
    """Red on the right, green under transparency on the left, 64 × 64 px; with a caption."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (*GREEN, alpha)
    pixels[:, 32:] = (*RED, 255)
    Image.fromarray(pixels, "RGBA").save(path)
    path.with_suffix(".txt").write_text("zog")
    return path


def corners(path: Path, background: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Upper left and lower right pixel of the image in its bucket."""
    image = fit(read_image(path.read_bytes()), (64, 64), background)
    return image.getpixel((2, 2)), image.getpixel((61, 61))


@pytest.mark.parametrize(
    ("background", "shown"),
    [("white", (255, 255, 255)), ("black", (0, 0, 0)), ("gray", (128, 128, 128)), ("mean", RED), ("hidden", GREEN)],
)
def test_transparent_parts_show_the_background(tmp_path, background, shown):
    assert corners(half_transparent(tmp_path / "a.png"), background) == (shown, RED)


def test_the_mean_color_counts_pixels_by_their_alpha(tmp_path):
    path = half_transparent(tmp_path / "a.png", alpha=85)
    # A third of green and all of red: (150, 50, 0), a third of which is covered by green.
    assert corners(path, "mean")[0] == pytest.approx((100, 100, 0), abs=1)


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_color_is_transparent(tmp_path, mode):
    image = Image.new(mode, (64, 64), 1 if mode == "P" else 0)
    if mode == "P":
        image.putpalette([0, 0, 0, *GREEN])
    hidden = GREEN if mode == "P" else (0, 0, 0)
    image.save(tmp_path / "a.png", transparency=hidden if mode == "RGB" else 1 if mode == "P" else 0)
    assert corners(tmp_path / "a.png", "white")[0] == (255, 255, 255)
    assert corners(tmp_path / "a.png", "hidden")[0] == hidden


def test_unusual_modes_keep_their_colors(tmp_path):
    Image.fromarray(np.full((64, 64), 40000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    for background in ("white", "hidden"):
        assert corners(tmp_path / "deep.png", background)[0] == pytest.approx((155, 155, 155), abs=1)
        assert corners(tmp_path / "red.jpg", background)[0] == pytest.approx((255, 0, 0), abs=2)


def test_check_counts_transparent_images_and_names_the_background(tmp_path):
    write_captions(tmp_path, "zog")
    half_transparent(tmp_path / "b.png")
    half_transparent(tmp_path / "hardly.png", alpha=252)
    (found,) = [problem for problem in problems_of(tmp_path) if problem.field == "background"]
    assert (found.severity, "1 image " in found.message, "b.png" in found.message) == ("warning", True, True)
    assert "show white" in found.hint
    (found,) = [problem for problem in problems_of(tmp_path, background="hidden") if problem.field == "background"]
    assert "show the colors stored under them" in found.hint
    for floor, words in ((0.0, "they do not count"), (0.1, "0.1 times")):
        problems = problems_of(tmp_path, masks="alpha", mask_floor=floor)
        (found,) = [problem for problem in problems if problem.field == "background"]
        assert "show white" in found.hint and words in found.hint


def test_a_fully_transparent_image_is_an_error_unless_its_hidden_colors_are_trained(tmp_path):
    write_captions(tmp_path, "zog")
    Image.new("RGBA", (64, 64), (*GREEN, 0)).save(tmp_path / "empty.png")
    (text,) = texts(problems_of(tmp_path, background="mean"))
    assert text.startswith("empty.png: The image empty.png is fully transparent.")
    assert not texts(problems_of(tmp_path, background="hidden"))


def latents(folder: Path, background: str, cache: Path | None = None, *, keeps: bool = False):
    """Latents of all images in a folder, and how many images were encoded for them."""
    config = TrainConfig(data_folder=str(folder), resolution=64, background=background)
    report = read_dataset(config, kept=KeptImages(64, background=background) if keeps else None)
    entries = latent_entries(report.usable, 64, flip=False, background=background)
    vae, encoded = ToyVae(), []
    encode = vae.encode
    vae.encode = lambda pixels: encoded.append(len(pixels)) or encode(pixels)
    items = encode_all(
        entries,
        vae,
        batch_size=4,
        folder=cache,
        progress=lambda *_: None,
        stopped=lambda: False,
        kept=report.kept,
    )
    return [item.mean for item in items], sum(encoded)


def test_stored_latents_belong_to_their_background(tmp_path):
    save_image(tmp_path / "data" / "opaque.png")
    half_transparent(tmp_path / "data" / "see-through.png")
    cache = tmp_path / "cache"
    white, count = latents(tmp_path / "data", "white", cache)
    assert count == 2
    assert latents(tmp_path / "data", "white", cache)[1] == 0
    # Of an opaque image they stay valid.
    hidden, count = latents(tmp_path / "data", "hidden", cache)
    assert count == 1
    assert torch.equal(white[0], hidden[0]) and not torch.equal(white[1], hidden[1])
    again, count = latents(tmp_path / "data", "white", cache)
    assert count == 0 and torch.equal(again[1], white[1])


def test_kept_images_have_the_background(tmp_path):
    (tmp_path / "data").mkdir()
    half_transparent(tmp_path / "data" / "a.png")
    kept, read = latents(tmp_path / "data", "black", keeps=True), latents(tmp_path / "data", "black")
    assert torch.equal(kept[0][0], read[0][0])
