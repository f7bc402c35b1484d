"""Captions in every encoding are read, or one finding per folder shows what they may say."""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE

import pytest

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.dataset_report import read_dataset
from tests.unit.dataset_files import problems_of, save_image, texts, write_captions


def captions(folder, **changes):
    return [image.caption for image in read_dataset(TrainConfig(data_folder=str(folder), **changes)).images]


@pytest.mark.parametrize("text", ["zog, hat", "髪, 街, 帽子", "zog\u2019s hat"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (BOM_UTF8, "utf-8"),
        (BOM_UTF16_LE, "utf-16-le"),
        (BOM_UTF16_BE, "utf-16-be"),
        (BOM_UTF32_LE, "utf-32-le"),
        (BOM_UTF32_BE, "utf-32-be"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
    ],
)
def test_every_unicode_encoding_is_read(tmp_path, text, mark, encoding):
    save_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(mark + text.encode(encoding))
    assert captions(tmp_path) == [text]
    assert not problems_of(tmp_path)


def test_one_finding_shows_what_a_caption_says_in_each_encoding(tmp_path):
    """Test input 2."""
    for number in range(30):
        save_image(tmp_path / "deep" / f"a{number}.png", color=(number, 0, 0))
        (tmp_path / "deep" / f"a{number}.txt").write_bytes("髪, 街".encode("cp932"))
    (found,) = problems_of(tmp_path)
    assert found.is_error and found.field == "caption_encoding"
    assert "30 captions" in found.message and "deep/a0.txt" in found.message
    assert "cp932: 髪, 街" in found.message
    for encoding in ("gb18030", "cp1252", "cp949", "big5"):
        assert f"{encoding}: " in found.message
    assert '"Caption encoding"' in found.hint and "UTF-8" in found.hint
    assert captions(tmp_path, caption_encoding="cp932") == ["髪, 街"] * 30
    assert not problems_of(tmp_path, caption_encoding="cp932")


def test_an_encoding_that_does_not_fit_is_reported(tmp_path):
    save_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"zog \x81")
    (error,) = texts(problems_of(tmp_path, caption_encoding="cp932"))
    assert "cp932" in error and "a.txt" in error


@pytest.mark.parametrize(
    "data",
    [
        "zog, hat".encode("utf-32-le"),
        b"zog, \0 hat",
        b"\xff\xfe\xfa",
        "zog\u2019s hat".encode("cp1252"),
    ],
    ids=["utf-32 without mark", "nul", "half a letter", "smart quote"],
)
def test_other_bytes_are_never_guessed(tmp_path, data):
    write_captions(tmp_path, "zog", "zog")
    (tmp_path / "a0.txt").write_bytes(data)
    (error,) = texts(problems_of(tmp_path))
    assert "a0.txt" in error and "UTF-8" in error


@pytest.mark.parametrize("text", ["zog\ufffd, hat", "zog\x07, hat"])
def test_damaged_characters_are_reported(tmp_path, text):
    write_captions(tmp_path, text, "zog")
    (warning,) = texts(problems_of(tmp_path), "warning")
    assert "a0.png" in warning and "damaged" in warning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("zog,\u00a0hat\u202fx", "zog, hat x"),
        ("zog\u200b,\ufeff hat", "zog , hat"),
        ("zog\r\nmib\rhat", "zog\nmib\nhat"),
        ("می\u200cروم", "می\u200cروم"),
    ],
    ids=["composition", "no-break space", "zero width", "line ends", "joiners that belong to the word"],
)
def test_invisible_differences_are_removed(tmp_path, text, expected):
    write_captions(tmp_path, text)
    assert captions(tmp_path) == [expected]
    assert not problems_of(tmp_path)


def test_wide_commas_are_commas_unless_switched_off(tmp_path):
    write_captions(tmp_path, "zog，hat", "zog、hat", "zog, hat")
    assert captions(tmp_path) == ["zog, hat"] * 3
    (warning,) = [text for text in texts(problems_of(tmp_path), "warning") if "comma" in text]
    assert "2 captions" in warning and '"Full-width commas separate tags"' in warning
    assert captions(tmp_path, fix_punctuation=False) == ["zog，hat", "zog、hat", "zog, hat"]
    assert not problems_of(tmp_path, fix_punctuation=False)
