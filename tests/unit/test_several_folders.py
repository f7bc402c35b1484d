"""A data set of several folders: findings name the right one, and overlaps are reported."""

from __future__ import annotations

import pytest

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.dataset_report import read_dataset
from tests.unit.dataset_files import problems_of, save_image, texts, write_captions


def images(folder, *subsets):
    return read_dataset(TrainConfig(data_folder=str(folder), subsets=subsets)).images


def test_images_are_shown_with_their_folder(tmp_path):
    for name in ("one", "two"):
        write_captions(tmp_path / name, f"zog {name}")
    (tmp_path / "two" / "a1.png").write_bytes(b"x")
    subset = Subset(str(tmp_path / "two"))
    assert [image.shown for image in images(tmp_path / "one", subset)] == ["one/a0.png", "two/a0.png", "two/a1.png"]
    (error,) = texts(problems_of(tmp_path / "one", subsets=(subset,)))
    assert "two/a1.png" in error
    assert [image.shown for image in images(tmp_path / "one")] == ["a0.png"]


def test_folders_of_the_same_name_are_told_apart(tmp_path):
    for name in ("x", "y"):
        write_captions(tmp_path / name / "zog", f"zog {name}")
    shown = [image.shown for image in images(tmp_path / "x" / "zog", Subset(str(tmp_path / "y" / "zog")))]
    assert len(set(shown)) == 2 and all(name.endswith("zog/a0.png") for name in shown)


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_folder_without_images_is_an_error_about_its_setting(tmp_path, kind):
    write_captions(tmp_path / "one", "zog")
    if kind == "empty":
        (tmp_path / "two").mkdir()
    (error,) = problems_of(tmp_path / "one", subsets=(Subset(str(tmp_path / "two")),))
    assert error.is_error and error.field == "subsets[0].folder" and "two" in error.message


def test_without_data_folder_the_first_folder_has_its_own_name_in_findings(tmp_path):
    write_captions(tmp_path / "one", "zog")
    (error,) = problems_of("", subsets=(Subset(str(tmp_path / "none")), Subset(str(tmp_path / "one"))))
    assert error.field == "subsets[0].folder" and "none" in error.message
    assert [problem.field for problem in problems_of("")] == ["data_folder"]


def test_captions_source_encoding_and_subfolders_of_a_folder(tmp_path):
    for name in ("one", "two", "two/deep"):
        save_image(tmp_path / name / "a.png", color=(len(name), 3, 3))
        (tmp_path / name / "a.txt").write_text("zog txt")
        (tmp_path / name / "a.caption").write_text("zog caption")
    subset = Subset(str(tmp_path / "two"), captions="caption", subfolders=False, repeats=0.5)
    found = [(image.shown, image.caption, image.repeats) for image in images(tmp_path / "one", subset)]
    assert found == [("one/a.png", "zog txt", 1), ("two/a.png", "zog caption", 0.5)]


def test_the_same_folder_twice_is_reported_and_its_images_are_no_copies(tmp_path):
    write_captions(tmp_path, "zog", "mib")
    (warning,) = problems_of(tmp_path, subsets=(Subset(f"{tmp_path}/"),))
    assert warning.field == "subsets[0].folder" and not warning.is_error
    assert "the same folder as data_folder" in warning.message
    assert len(images(tmp_path, Subset(str(tmp_path)))) == 4


def test_a_folder_inside_another_belongs_to_its_own_subset_only(tmp_path):
    write_captions(tmp_path, "zog")
    save_image(tmp_path / "reg" / "b.png", color=(1, 1, 1))
    (tmp_path / "reg" / "b.txt").write_text("a robot")
    subset = Subset(str(tmp_path / "reg"), kind="regularization")
    found = images(tmp_path, subset)
    assert [(image.path.name, image.subset.kind) for image in found] == [
        ("a0.png", "train"),
        ("b.png", "regularization"),
    ]
    (warning,) = [problem for problem in problems_of(tmp_path, subsets=(subset,)) if "inside" in problem.message]
    assert warning.field == "subsets[0].folder" and "data_folder" in warning.message


def test_an_image_that_is_reached_through_two_folders_is_reported(tmp_path):
    write_captions(tmp_path / "disk" / "zog", "zog", "mib")
    write_captions(tmp_path / "one", "zog, hat")
    save_image(tmp_path / "one" / "a0.png", color=(200, 1, 1))
    try:
        (tmp_path / "one" / "link").symlink_to(tmp_path / "disk" / "zog")
    except OSError:
        pytest.skip("no links")
    (warning,) = problems_of(tmp_path / "one", subsets=(Subset(str(tmp_path / "disk")),))
    assert "2 images" in warning.message and warning.field == "subsets[0].folder"


def test_the_encoding_of_each_folder_is_its_own_finding(tmp_path):
    for number, name in enumerate(("one", "two")):
        save_image(tmp_path / name / "a.png", color=(number, 1, 1))
        (tmp_path / name / "a.txt").write_bytes("髪".encode("cp932"))
    errors = texts(problems_of(tmp_path / "one", subsets=(Subset(str(tmp_path / "two")),)))
    assert len(errors) == 2 and "one/a.txt" in errors[0] and "two/a.txt" in errors[1]
