"""Color profiles, CMYK, animations and long text chunks."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.bucket_image import fit
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.image_file import image_size, notes_of, read_image
from lib_pivotal.core.data.png_text import without_text
from lib_pivotal.core.train.batches import latent_entries
from tests.unit.dataset_files import problems_of, save_image, texts

LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
"""Pillow names this profile "sRGB built-in"."""


def linear_profile() -> bytes:
    """The profile of sRGB with a straight line in place of its curve, so that 0.5 means half of the light."""
    data = bytearray(SRGB)
    for index in range(int.from_bytes(data[128:132], "big")):
        at = 132 + 12 * index
        name, offset = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "big")
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            data[offset : offset + 12] = b"curv" + bytes(8)
            data[at + 8 : at + 12] = (12).to_bytes(4, "big")
    return bytes(data).replace("sRGB".encode("utf-16-be"), "Line".encode("utf-16-be")).replace(b"sRGB", b"Line")


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixel(data: bytes) -> tuple[int, ...]:
    return fit(read_image(data), (8, 8)).getpixel((4, 4))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colors_are_converted_to_srgb(mode):
    color = (128, 128, 128) if mode == "RGB" else (128, 128, 128, 255)
    red, green, blue = pixel(encoded(Image.new(mode, (8, 8), color), icc_profile=linear_profile()))
    # Half of the light is 188 in sRGB.
    assert abs(red - 188) <= 2 and abs(green - 188) <= 2 and abs(blue - 188) <= 2


def test_latents_of_unconverted_colors_are_not_used(tmp_path):
    """Earlier releases stored them under the hash of the file."""
    for name, profile in (("plain", SRGB), ("other", linear_profile())):
        (tmp_path / f"{name}.png").write_bytes(encoded(Image.new("RGB", (64, 64), (1, 2, 3)), icc_profile=profile))
    images = read_dataset(TrainConfig(data_folder=str(tmp_path))).images
    found = {entry.shown: entry.is_converted for entry in latent_entries(images, 64, flip=False)}
    assert found == {"plain.png": False, "other.png": True}


def test_transparency_survives_the_conversion():
    image = Image.new("RGBA", (8, 8), (128, 0, 0, 0))
    assert pixel(encoded(image, icc_profile=linear_profile())) == (255, 255, 255)


@pytest.mark.parametrize("profile", [SRGB, b"no profile", LAB], ids=["sRGB", "damaged", "of another kind"])
def test_other_profiles_change_nothing(profile):
    assert pixel(encoded(Image.new("RGB", (8, 8), (10, 128, 200)), icc_profile=profile)) == (10, 128, 200)


def test_a_gray_image_with_a_profile_of_three_colors_is_read():
    assert pixel(encoded(Image.new("L", (8, 8), 128), icc_profile=linear_profile())) == (128, 128, 128)


def test_cmyk_and_animations_are_pointed_out(tmp_path):
    save_image(tmp_path / "a.png")
    (tmp_path / "cmyk.jpg").write_bytes(encoded(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), "JPEG"))
    frames = [Image.new("RGB", (64, 64), color) for color in ((255, 0, 0), (0, 0, 255))]
    (tmp_path / "moves.gif").write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    for name in ("a", "cmyk", "moves"):
        (tmp_path / f"{name}.txt").write_text("zog")
    found = " ".join(texts(problems_of(tmp_path), "warning"))
    assert "Only the first frame" in found and "moves.gif" in found
    assert "CMYK" in found and "cmyk.jpg" in found
    assert "a.png" not in found
    red, green, blue = pixel((tmp_path / "cmyk.jpg").read_bytes())
    assert red > 200 and green < 60 and blue < 60
    assert pixel((tmp_path / "moves.gif").read_bytes()) == (255, 0, 0)


def test_png_files_with_long_texts_are_read(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 3_000_000, zip=True)
    text.add_itxt("prompt", "zog")
    data = encoded(Image.new("RGB", (40, 20), (1, 2, 3)), pnginfo=text)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert image_size(path) == (40, 20)
    assert pixel(data) == (1, 2, 3)
    assert notes_of(data) == ()


def test_only_text_chunks_are_removed():
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * 100)
    image = Image.new("P", (8, 8), 0)
    image.putpalette([9, 8, 7] * 256)
    plain, with_text = encoded(image, transparency=0), encoded(image, transparency=0, pnginfo=text)
    assert without_text(with_text) == plain
    assert without_text(plain) is plain


@pytest.mark.parametrize("cut", [20, 40, 60, -5, -13])
def test_damaged_png_files_keep_their_rest(cut):
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b" * 100)
    data = encoded(Image.fromarray(np.zeros((8, 8), np.uint8)), pnginfo=text)[:cut]
    assert data.startswith(without_text(data)[:33])


def test_a_length_beyond_the_end_does_no_harm():
    data = b"\x89PNG\r\n\x1a\n" + (2**31).to_bytes(4, "big") + b"tEXt" + zlib.compress(b"x")
    assert without_text(data) == data
