"""Unusual image files: strange EXIF data is accepted, damage names the file, and memory is bounded."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from lib_pivotal.core.data import image_file
from lib_pivotal.core.data.image_file import UnusableImage, read_image, readable_suffixes, upright
from lib_pivotal.core.data.pixels import load_pixels
from lib_pivotal.core.data.scan import scan
from lib_pivotal.core.errors import DatasetError
from tests.unit.dataset_files import problems_of, save_image, texts, write_captions
from tests.unit.toy import write_images

_SHORT, _ASCII, _SIGNED, _UNDEFINED = 3, 2, 9, 7
_TURNED = (0x112, _SHORT, 1, struct.pack("<HH", 6, 0))


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data of tag, type, count and value; Pillow would not write invalid ones."""
    packed = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


def half_white() -> Image.Image:
    """128 × 64 px as stored, the left half white."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :64] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (exif((0x112, _ASCII, 2, b"6\0\0\0")), (64, 128)),
        (exif((0x112, _ASCII, 4, b"top\0")), (128, 64)),
        (exif((0x112, _SHORT, 1, struct.pack("<HH", 99, 0))), (128, 64)),
        (exif(_TURNED, (0x100, _SIGNED, 1, b"\xff\xff\xff\xff")), (64, 128)),
        (exif(_TURNED, (0x100, _UNDEFINED, 4, b"abcd")), (64, 128)),
        (exif(_TURNED, (0x10F, _ASCII, 100, struct.pack("<I", 5000))), (64, 128)),
        (b"Exif\0\0garbage", (128, 64)),
    ],
    ids=["a digit", "a word", "no such turn", "another tag below 0", "another tag of bytes", "cut off", "no EXIF"],
)
def test_invalid_exif_data_is_ignored_silently(tmp_path, recwarn, data, size):
    half_white().save(tmp_path / "odd.jpg", exif=data, quality=100)
    (tmp_path / "odd.txt").write_text("zog_x")
    (image,) = scan(tmp_path)
    assert ((image.width, image.height), image.flaws) == (size, ())
    assert not texts(problems_of(tmp_path))
    pixels = load_pixels(tmp_path / "odd.jpg", size, mirrored=False)
    assert pixels[0, 5, 5] > 0.9
    assert pixels[0, -5, -5] < -0.9
    assert not recwarn.list


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_as_pillow_does(orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (3, 5, 3)).astype(np.uint8))
    image.getexif()[0x112] = orientation
    assert np.array_equal(np.asarray(upright(image)), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_the_header_and_the_pixels_agree_which_way_is_up(tmp_path, suffix, orientation):
    """Pillow rotates TIFF images itself: some versions when opening the file, others when decoding it."""
    if suffix not in readable_suffixes():
        pytest.skip(f"this Pillow cannot read {suffix}")
    data = Image.Exif()
    data[0x112] = orientation
    half_white().save(tmp_path / f"a{suffix}", exif=data)
    (tmp_path / "a.txt").write_text("zog")
    size = (64, 128) if orientation >= 5 else (128, 64)
    (image,) = scan(tmp_path)
    assert (image.width, image.height) == size
    pixels = load_pixels(tmp_path / f"a{suffix}", size, mirrored=False)[0]
    assert (pixels[5, 5] > 0.9) == (orientation in (1, 6))
    assert (pixels[-5, -5] > 0.9) == (orientation in (3, 8))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif"])
def test_headers_are_read_without_decoding(tmp_path, monkeypatch, suffix):
    save_image(tmp_path / f"a{suffix}")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    assert [(image.width, image.flaws) for image in scan(tmp_path)] == [(64, ())]


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_pixels(tmp_path / "a.gif", (64, 64), mirrored=False)[:, 5, 5].round().tolist() == [1.0, -1.0, -1.0]


# -- what cannot be used


@pytest.mark.parametrize(
    "error", [TypeError("text"), struct.error("short"), EOFError("end"), zlib.error("x"), KeyError(1)]
)
def test_a_damaged_file_is_named_whatever_it_raises(tmp_path, monkeypatch, error):
    write_images(tmp_path, 2)
    whole = (tmp_path / "00.png").read_bytes()
    load = ImageFile.ImageFile.load

    def load_odd(self):
        if self.size == (64, 64):
            raise error
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load_odd)
    assert [problem.field for problem in problems_of(tmp_path) if problem.is_error] == ["01.png"]
    with pytest.raises(DatasetError, match=r"01\.png"):
        load_pixels(tmp_path / "01.png", (64, 64), mirrored=False)
    assert read_image(whole).size == (128, 64)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer instead of the image"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC image. Convert it"),
        (b"\xff\x0a\0\0", "is a JPEG XL image"),
        (b"8BPS\0\x01", "is a Photoshop file"),
        (b"hello", "is not an image in a supported format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "is not an image"),
    ],
)
def test_a_file_that_is_an_image_only_by_name_is_reported(tmp_path, data, words):
    write_captions(tmp_path, "zog")
    (tmp_path / "b.jpg").write_bytes(data)
    (error,) = texts(problems_of(tmp_path))
    assert f"The image b.jpg {words}" in error


def test_floating_point_images_are_refused(tmp_path):
    write_captions(tmp_path, "zog")
    Image.fromarray(np.full((64, 64), 0.5, np.float32)).save(tmp_path / "b.tif")
    assert "floating-point" in texts(problems_of(tmp_path))[0]


# -- bounds


def black_png(width: int, height: int, *, rows: int | None = None) -> bytes:
    """A gray image that unpacks to a thousand times its file; with fewer rows than its header says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(width + 1) * (height if rows is None else rows), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(16_000, 16_000), (32, 8_000_000)])
def test_images_of_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch, size):
    write_captions(tmp_path, "zog")
    (tmp_path / "b.png").write_bytes(black_png(*size, rows=1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (error,) = texts(problems_of(tmp_path))
    assert "b.png has more than 200 million pixels" in error and "Scale it down." in error


@pytest.mark.parametrize("height", [1200, 2400])
def test_images_that_pillow_warns_about_or_refuses_are_read_silently(tmp_path, monkeypatch, height):
    (tmp_path / "b.png").write_bytes(black_png(2000, height))
    (tmp_path / "b.txt").write_text("zog")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not problems_of(tmp_path)


@pytest.mark.parametrize("size", [(32, 200_000), (200_000, 32)])
def test_thin_images_are_cut_before_they_are_scaled(tmp_path, monkeypatch, size):
    """Scaled as a whole, this one would be 8 × 10^8 pixels."""
    (tmp_path / "b.png").write_bytes(black_png(*size))
    bucket = (256, 1024) if size[0] < size[1] else (1024, 256)
    scaled = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, to, *a, **k: scaled.append(to) or resize(self, to, *a, **k))
    assert load_pixels(tmp_path / "b.png", bucket, mirrored=False).shape == (3, bucket[1], bucket[0])
    assert scaled == [bucket]


def test_a_thin_image_shows_its_middle(tmp_path):
    pixels = np.zeros((40, 16_000, 3), np.uint8)
    pixels[:, 8000:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shown = load_pixels(tmp_path / "a.png", (256, 64), mirrored=False)
    assert shown[:, :, :120].max() == -1.0
    assert shown[:, :, 136:].min() == 1.0


@pytest.mark.parametrize("stage", ["load", "crop"])
def test_running_out_of_memory_names_the_image(tmp_path, monkeypatch, stage):
    write_captions(tmp_path, "zog")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(*((ImageFile.ImageFile, "load", fail) if stage == "load" else (image_file, "upright", fail)))
    (error,) = texts(problems_of(tmp_path))
    assert "a0.png needs more memory than is available. Scale it down." in error
    with pytest.raises(DatasetError, match="more memory"):
        load_pixels(tmp_path / "a0.png", (64, 64), mirrored=False)


def test_files_of_any_size_are_read_to_a_limit(tmp_path, monkeypatch):
    write_captions(tmp_path, "zog")
    monkeypatch.setattr(image_file, "_MAX_BYTES", 100)
    with pytest.raises(UnusableImage, match="is larger than"):
        image_file.read_bytes(tmp_path / "a0.png")


def test_comparing_images_copies_a_strip_at_a_time(tmp_path):
    """Python's own memory; the decoded image is Pillow's."""
    write_captions(tmp_path, "zog")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (3000, 3000)).astype(np.uint8)).save(tmp_path / "b.bmp")
    size = (tmp_path / "b.bmp").stat().st_size
    tracemalloc.start()
    try:
        problems_of(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * size


def test_sixteen_bits_become_eight_exactly(tmp_path):
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "a.png")
    shown = load_pixels(tmp_path / "a.png", (256, 256), mirrored=False)[0]
    assert np.array_equal(((shown + 1) * 127.5).round().numpy().astype(np.uint8), (values // 257).astype(np.uint8))
