"""How often an image counts, from names of folders and from multiply.txt."""

from __future__ import annotations

import pytest

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.dataset_report import read_dataset
from tests.unit.dataset_files import problems_of, save_image, texts


def add(folder, *names):
    """An image with a caption in each of these folders."""
    for number, name in enumerate(names):
        save_image(folder / name / "a.png", color=(9 * number, 80, 5))
        (folder / name / "a.txt").write_text("zog")


def repeats(folder, **changes):
    report = read_dataset(TrainConfig(**{"data_folder": str(folder), **changes}))
    return {image.shown.rpartition("/")[0]: image.repeats for image in report.images}


def warnings(folder, **changes):
    return "\n".join(texts(problems_of(folder, **changes), "warning"))


def test_folders_of_the_screenshot_pipeline(tmp_path):
    """Test input 1."""
    add(tmp_path, "2_characters/A+B", "10_zog robot", "2023_summer", "1000_x")
    (tmp_path / "2_characters" / "A+B" / "multiply.txt").write_text("3.5\n")
    assert repeats(tmp_path) == {"10_zog robot": 10, "1000_x": 1000, "2023_summer": 1, "2_characters/A+B": 3.5}
    found = warnings(tmp_path)
    assert "2_characters" in found and "anime_screenshot_pipeline" in found
    assert "multiply.txt" in found and "2_characters/A+B (3.5)" in found
    assert "1000_x" in found and '"Folder names are repeats"' in found
    assert "2023_summer" in found
    assert "10_zog robot" not in found
    (tmp_path / "2_characters" / "A+B" / "multiply.txt").unlink()
    assert repeats(tmp_path)["2_characters/A+B"] == 1


@pytest.mark.parametrize("name", ["1_character", "0_characters", "2_people", "1_Person", "3_persons"])
def test_numbers_of_people_are_no_repeats(tmp_path, name):
    add(tmp_path, name)
    assert repeats(tmp_path) == {name: 1}
    expected = max(1, int(name[0]))
    assert repeats(tmp_path, folder_repeats="yes") == {name: expected}
    assert repeats(tmp_path, folder_repeats="no") == {name: 1}


@pytest.mark.parametrize("marker", ["emb_init.json", "core_tag.json", "core_tags.json"])
@pytest.mark.parametrize("data_folder", ["", "training", "training/booru"])
def test_a_file_of_the_pipeline_above_means_that_numbers_are_no_repeats(tmp_path, marker, data_folder):
    add(tmp_path, "training/booru/4_of_them", "other/5_zog")
    (tmp_path / "training" / marker).write_text("{}")
    values = repeats(tmp_path / data_folder)
    assert [value for name, value in values.items() if "4_of" in name] == [1]
    assert values.get("other/5_zog") == (None if data_folder else 5)


def test_the_setting_decides(tmp_path):
    add(tmp_path, "5_zog", "2023_summer", "20231105_trip", "plain")
    assert repeats(tmp_path) == {"5_zog": 5, "2023_summer": 1, "20231105_trip": 1, "plain": 1}
    assert repeats(tmp_path, folder_repeats="no") == {"5_zog": 1, "2023_summer": 1, "20231105_trip": 1, "plain": 1}
    assert repeats(tmp_path, folder_repeats="yes") == {
        "5_zog": 5, "2023_summer": 2023, "20231105_trip": 1, "plain": 1
    }  # fmt: skip


def test_the_nearest_folder_counts_and_the_data_folder_itself_too(tmp_path):
    add(tmp_path, "4_all/deep", "4_all/3_less/deep", "4_all/2_characters")
    assert repeats(tmp_path) == {"4_all/deep": 4, "4_all/3_less/deep": 3, "4_all/2_characters": 4}
    assert set(repeats(tmp_path / "4_all").values()) == {4, 3}


def test_multiply_counts_for_its_own_folder_only_and_multiplies_with_the_subset(tmp_path):
    add(tmp_path, "5_zog", "5_zog/deep", "mib")
    (tmp_path / "5_zog" / "multiply.txt").write_text("0.25")
    (tmp_path / "mib" / "multiply.txt").write_text("1.1")
    assert repeats(tmp_path) == {"5_zog": 0.25, "5_zog/deep": 5, "mib": 1.1}
    assert repeats(tmp_path, folder_repeats="no") == {"5_zog": 0.25, "5_zog/deep": 1, "mib": 1.1}
    subset = Subset(str(tmp_path / "mib"), repeats=2.0)
    assert repeats("", subsets=(subset,)) == {"": 2.2}


@pytest.mark.parametrize("text", ["x", "", "0", "-1", "nan", "inf", "1e9", "3,5", "9" * 100])
def test_a_number_that_cannot_be_used_is_an_error(tmp_path, text):
    add(tmp_path, "zog")
    (tmp_path / "zog" / "multiply.txt").write_text(text)
    (error,) = texts(problems_of(tmp_path))
    assert "zog/multiply.txt" in error and "such as 2.5" in error
    assert repeats(tmp_path) == {"zog": 1}


def test_a_suffix_that_windows_hides_is_pointed_out(tmp_path):
    add(tmp_path, "zog")
    (tmp_path / "zog" / "multiply.txt.txt").write_text("3")
    assert repeats(tmp_path) == {"zog": 1}
    assert "zog/multiply.txt.txt" in warnings(tmp_path)


def test_a_folder_that_kohya_would_leave_out_is_pointed_out(tmp_path):
    add(tmp_path, "0_zog")
    assert repeats(tmp_path) == {"0_zog": 1}
    assert "0_zog" in warnings(tmp_path)
