"""The sample images of the first visit."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image

from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.samples.sample_set import NAME, sample_settings, write_samples
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.output_check import SMALLEST


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "sample-images"
    write_samples(path)
    return path


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_check_finds_nothing_wrong_with_them(folder, tmp_path, family):
    config = sample_settings(folder, family)
    found = check(
        config, bundles=tmp_path, taken_names={}, tokenizer=None, run_root=tmp_path, per_rank=SMALLEST, family=family
    )
    assert [str(problem) for problem in found.problems] == []
    assert config.resolution == (1024 if family == "sdxl" else 512)


def test_each_caption_names_the_robot_first_and_no_two_images_are_alike(folder):
    dataset = read_dataset(sample_settings(folder, "sd1"))
    assert len(dataset.usable) == 16 and not dataset.copies
    captions = [image.caption for image in dataset.usable]
    assert len(set(captions)) == 16 and all(caption.startswith(f"{NAME}, ") for caption in captions)


def test_what_the_user_changed_stays(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / f"{NAME}-01.txt").write_text("mine")
    (tmp_path / f"{NAME}-02.png").unlink()
    write_samples(tmp_path)
    assert (tmp_path / f"{NAME}-01.txt").read_text() == "mine"
    assert Image.open(tmp_path / f"{NAME}-02.png").size == (1024, 1024)
