"""Which files of a folder are data, and what is reported about the others."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from lib_pivotal.core.data import caption_match
from lib_pivotal.core.data.folder import find_folder, list_folder
from lib_pivotal.core.data.image_file import readable_suffixes
from lib_pivotal.core.data.scan import scan
from tests.unit.dataset_files import problems_of, save_image, texts, write_captions


def names(folder: Path) -> list[str]:
    return [image.path.relative_to(folder).as_posix() for image in list_folder(folder).images]


def not_used(folder: Path) -> str:
    return " ".join(text for text in texts(problems_of(folder), "warning") if "Not used" in text)


def test_scan_reads_kohya_repeats_captions_and_orientation(tmp_path):
    save_image(tmp_path / "3_zog" / "a.PNG", (40, 80))
    (tmp_path / "3_zog" / "a.txt").write_text("\ufeff zog, left \n", encoding="utf-8")
    exif = Image.Exif()
    exif[0x0112] = 6
    save_image(tmp_path / "plain" / "b.jpg", (40, 80), exif=exif)
    save_image(tmp_path / ".hidden" / "c.png")
    save_image(tmp_path / "d-masklabel.png")
    images = scan(tmp_path)
    assert [(image.path.name, image.repeats, image.caption) for image in images] == [
        ("a.PNG", 3, "zog, left"),
        ("b.jpg", 1, None),
    ]
    assert (images[0].width, images[0].height) == (40, 80)
    assert (images[1].width, images[1].height) == (80, 40)


def test_a_folder_name_that_starts_with_a_date_has_no_repeat_count(tmp_path):
    save_image(tmp_path / "20231105_trip" / "a.png")
    assert [image.repeats for image in scan(tmp_path)] == [1]


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".tif", ".tiff", ".gif", ".avif", ".webp", ".bmp", ".JPEG"])
def test_every_kind_that_pillow_reads_is_used(tmp_path, suffix):
    if suffix.lower() not in readable_suffixes():
        pytest.skip(f"this Pillow cannot read {suffix}")
    save_image(tmp_path / f"b{suffix}")
    (tmp_path / "b.txt").write_text("zog")
    (image,) = scan(tmp_path)
    assert (image.width, image.caption, image.flaws) == (64, "zog", ())


def test_one_finding_counts_what_is_not_used(tmp_path):
    write_captions(tmp_path, "zog", "zog, left")
    for number in range(3):
        (tmp_path / f"photo{number}.heic").write_bytes(b"x")
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / f"lost{number}.txt").write_text("zog")
    for name in ("drawing.psd", "c.caption", "README", "Thumbs.db", ".DS_Store", "mine.longer-than-any-suffix"):
        (tmp_path / name).write_bytes(b"x")
    save_image(tmp_path / "a0-masklabel.png")
    (found,) = [problem for problem in problems_of(tmp_path) if "Not used" in problem.message]
    assert found.severity == "warning"
    assert found.message == (
        "Not used: 3 .heic, 3 .txt without an image, 2 other files, 1 .caption, 1 .psd, 1 mask (-masklabel)."
    )
    assert "PNG" in found.hint and ".txt" in found.hint


def test_a_folder_of_unreadable_kinds_says_what_it_holds(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    problems = problems_of(tmp_path)
    assert "1 .heic" in texts(problems, "warning")[0]
    assert "contains no images" in texts(problems)[0]


def test_files_written_by_training_are_not_data(tmp_path):
    write_captions(tmp_path, "zog", "zog, left")
    for run, mark in (("runs/zog-1", "loss.csv"), ("old/whatever", "states/state-000001.safetensors")):
        save_image(tmp_path / run / "samples" / "step-000001-0.png")
        (tmp_path / run / "config.json").write_text("{}")
        (tmp_path / run / mark).parent.mkdir(exist_ok=True)
        (tmp_path / run / mark).write_text("x")
    for cover in ("zog.png", "zog-000100.png", "other.preview.png"):
        save_image(tmp_path / "bundles" / cover)
        (tmp_path / "bundles" / cover.replace(".preview", "")).with_suffix(".safetensors").write_bytes(b"x")
    (tmp_path / "bundles" / "zog.json").write_text("{}")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ("0" * 64 + ".safetensors")).write_bytes(b"x")
    assert names(tmp_path) == ["a0.png", "a1.png"]
    text = not_used(tmp_path)
    for part in ("2 run folders", "3 cover images of bundles", "4 files of models", "1 stored latents"):
        assert part in text
    assert "are never used as training data." in text
    # The name alone is not enough.
    save_image(tmp_path / "runs" / "mine" / "a.png")
    assert names(tmp_path)[-1] == "runs/mine/a.png"


def test_the_selected_folder_is_data_whatever_its_name(tmp_path):
    save_image(tmp_path / "config.png")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "loss.csv").write_text("x")
    assert names(tmp_path) == ["config.png"]


# -- captions of nearly the right name


def test_captions_match_despite_case_and_unicode_composition(tmp_path):
    accented = "caf\u00e9"
    for image, caption in (
        ("b", "b.TXT"),
        ("IMG_1", "img_1.txt"),
        (accented, unicodedata.normalize("NFD", accented + ".txt")),
    ):
        save_image(tmp_path / f"{image}.png")
        (tmp_path / caption).write_text(f"of {image}")
    assert {image.path.stem: image.caption for image in scan(tmp_path)} == {
        "b": "of b",
        "IMG_1": "of IMG_1",
        accented: f"of {accented}",
    }


@pytest.mark.skipif(os.path.normcase("A") == "a", reason="names that differ in capitals only")
def test_an_ambiguous_caption_is_not_used(tmp_path):
    save_image(tmp_path / "a.png")
    save_image(tmp_path / "A.png")
    (tmp_path / "a.txt").write_text("small")
    save_image(tmp_path / "b.png")
    save_image(tmp_path / "B.png")
    (tmp_path / "b.TXT").write_text("whose?")
    assert [image.caption for image in scan(tmp_path)] == [None, None, "small", None]


@pytest.mark.parametrize("name", ["c.captions", "c.png.tags", "c.txt.txt", "C.text", "c .txt", "c .json"])
def test_files_that_may_have_been_meant_as_a_caption_are_named(tmp_path, name):
    write_captions(tmp_path, "zog")
    save_image(tmp_path / "c.png")
    (tmp_path / name).write_text("zog")
    (text,) = [text for text in texts(problems_of(tmp_path), "warning") if "No caption" in text]
    assert "c.png" in text and name in text and ".txt" in text
    (tmp_path / "a0.txt").unlink()
    (error,) = texts(problems_of(tmp_path))
    assert name in error


def test_thousands_of_files_without_partners_are_listed_at_once(tmp_path, monkeypatch):
    calls = []
    alike = caption_match.alike
    monkeypatch.setattr(caption_match, "alike", lambda name: calls.append(name) or alike(name))
    for number in range(40):
        (tmp_path / f"i{number}.png").write_bytes(b"x")
        (tmp_path / f"t{number}.txt").write_bytes(b"x")
    assert len(names(tmp_path)) == 40
    assert len(calls) < 400, "each name is compared with each other"


# -- odd files


def test_names_that_are_not_utf8_are_data_and_can_be_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    try:
        save_image(tmp_path / f"{name}.png")
    except (OSError, UnicodeError):
        pytest.skip("this file system has Unicode names only")
    (tmp_path / f"{name}.txt").write_text("zog")
    save_image(tmp_path / f"{name}2.png", (8, 8))
    save_image(tmp_path / "a\x1b[2J\u202e.png", (8, 8))
    problems = problems_of(tmp_path)
    assert len(texts(problems)) == 1 and "caf\\xe92.png" in texts(problems)[0]
    for problem in problems:
        assert (problem.field + str(problem)).encode() and (problem.field + str(problem)).isprintable()


def test_pipes_devices_and_dead_links_are_never_opened(tmp_path):
    write_captions(tmp_path, "zog", "zog, left")
    try:
        (tmp_path / "b.png").symlink_to("/dev/zero")
        (tmp_path / "c.png").symlink_to(tmp_path / "nowhere")
        (tmp_path / "a0.txt").unlink()
        (tmp_path / "a0.txt").symlink_to("/dev/zero")
    except OSError:
        pytest.skip("no links")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "d.png")
        (tmp_path / "a1.txt").unlink()
        os.mkfifo(tmp_path / "a1.txt")
    (tmp_path / "folder.png").mkdir()
    problems = problems_of(tmp_path)
    assert [problem.field for problem in problems if problem.is_error] == ["a0.png", "a1.png"]
    assert all("not a regular file" in text for text in texts(problems))
    assert "3 special files" in not_used(tmp_path)


def test_links_to_folders_are_followed_once(tmp_path):
    data = tmp_path / "data"
    write_captions(data / "one", "zog")
    write_captions(tmp_path / "elsewhere" / "3_mib", "mib")
    try:
        (data / "again").symlink_to(data / "one")
        (data / "loop").symlink_to(data)
        (data / "out").symlink_to(tmp_path)
        (data / "linked").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    except OSError:
        pytest.skip("no links")
    assert names(data) == ["linked/3_mib/a0.png", "one/a0.png"]
    assert "1 link to a folder around this one" in not_used(data)


@pytest.mark.parametrize("closed", ["", "sub"])
def test_closed_folders_are_an_error(tmp_path, monkeypatch, closed):
    write_captions(tmp_path, "zog")
    save_image(tmp_path / "sub" / "b.png")
    scandir = os.scandir

    def guarded(path):
        if Path(path) == tmp_path / closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    errors = texts(problems_of(tmp_path))
    assert len(errors) == 1
    assert "cannot be read (Permission denied)" in errors[0]
    assert (closed or tmp_path.name) in errors[0]


def test_a_parent_that_is_closed_is_no_traceback(tmp_path, monkeypatch):
    def closed(self, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", closed)
    (error,) = texts(problems_of(tmp_path))
    assert "cannot be opened (Permission denied)" in error


# -- what users type as a folder


@pytest.mark.parametrize(
    "typed", ["{}", ' "{}" ', "'{}'", "{} ", "\t{}\n", '"{}', "\u202a{}", "“{}”", "\ufeff'{}'\u00a0"]
)
def test_quotes_and_spaces_around_a_folder_are_removed(tmp_path, typed):
    write_captions(tmp_path / "my data", "zog")
    text = typed.format(tmp_path / "my data")
    assert find_folder(text) == (tmp_path / "my data", None)
    assert not texts(problems_of(text))


@pytest.mark.skipif(os.name == "nt", reason="Windows drops a blank at the end of a name")
def test_a_folder_whose_name_ends_with_a_space_can_be_used(tmp_path):
    (tmp_path / "a ").mkdir()
    (tmp_path / "a").mkdir()
    assert find_folder(f"{tmp_path}/a ")[0].name == "a "


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("", "No image folder is given."),
        (' "" ', "No image folder is given."),
        ('"/no/such/folder"', "/no/such/folder does not exist."),
        ("~nosuchuser/x", "~nosuchuser/x does not exist."),
        ("a\0b", "does not exist."),
        ("\ud800", "does not exist."),
        ("x" * 5000, "cannot be opened"),
        (__file__, "is a file."),
        (f"{__file__}/x", "does not exist."),
    ],
)
def test_a_path_that_is_not_a_folder_is_a_clear_error(typed, word):
    (error,) = texts(problems_of(typed))
    assert word in error.replace("\\", "/")
    assert error.isprintable() and len(error) < 400
