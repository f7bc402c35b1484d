"""Odd picture files: strange EXIF data is no reason to refuse a picture, and every damage names its file."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.findings import inspect_pictures
from lib_pivotal.core.data.picture_file import upright
from lib_pivotal.core.data.pixels import load_pixels
from lib_pivotal.core.data.scan import scan
from lib_pivotal.core.errors import DatasetError
from tests.unit.toy import write_pictures

_SHORT, _ASCII, _SIGNED, _UNDEFINED = 3, 2, 9, 7
_TURNED = (0x112, _SHORT, 1, struct.pack("<HH", 6, 0))


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data of tag, type, count and value; Pillow would not write odd ones."""
    packed = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


def save(folder, data: bytes):
    """A picture whose left half is white, 128 × 64 px as stored."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :64] = 255
    Image.fromarray(pixels).save(folder / "odd.jpg", exif=data, quality=100)
    (folder / "odd.txt").write_text("zog_x")
    return folder / "odd.jpg"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("data", "size"),
    [
        (exif((0x112, _ASCII, 2, b"6\0\0\0")), (64, 128)),
        (exif((0x112, _ASCII, 4, b"top\0")), (128, 64)),
        (exif((0x112, _SHORT, 1, struct.pack("<HH", 99, 0))), (128, 64)),
        (exif(_TURNED, (0x100, _SIGNED, 1, b"\xff\xff\xff\xff")), (64, 128)),
        (exif(_TURNED, (0x100, _UNDEFINED, 4, b"abcd")), (64, 128)),
        (b"Exif\0\0garbage", (128, 64)),
    ],
    ids=["a digit", "a word", "no such turn", "another tag below 0", "another tag of bytes", "no EXIF"],
)
def test_odd_exif_data_are_no_obstacle(tmp_path, data, size):
    path = save(tmp_path, data)
    (picture,) = scan(tmp_path)
    assert ((picture.width, picture.height), picture.problem) == (size, "")
    assert not [item for item in inspect_pictures(tmp_path, [picture], TrainConfig(resolution=64)) if item.is_error]
    pixels = load_pixels(path, size, mirrored=False)
    assert pixels[0, 5, 5] > 0.9
    assert pixels[0, -5, -5] < -0.9


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_does(orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (3, 5, 3)).astype(np.uint8))
    image.getexif()[0x112] = orientation
    assert np.array_equal(np.asarray(upright(image)), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("error", [TypeError("text"), struct.error("short"), EOFError("end")])
def test_whatever_a_damaged_file_raises_it_is_named(tmp_path, monkeypatch, error):
    write_pictures(tmp_path, 2)
    opened = Image.open

    def open_odd(path, *arguments):
        if path.name == "01.png":
            raise error
        return opened(path, *arguments)

    whole = scan(tmp_path)
    monkeypatch.setattr(Image, "open", open_odd)
    assert [bool(picture.problem) for picture in scan(tmp_path)] == [False, True]
    found = inspect_pictures(tmp_path, whole, TrainConfig(resolution=64))
    assert [problem.field for problem in found if problem.is_error] == ["01.png"]
    with pytest.raises(DatasetError, match=r"01\.png"):
        load_pixels(tmp_path / "01.png", (64, 64), mirrored=False)
