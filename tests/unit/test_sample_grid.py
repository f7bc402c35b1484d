"""The grid of sample images: newest step first, a column per prompt, gaps where an image is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lib_pivotal.ui.sample_grid import arrange_samples


def sample(step: int, index: int, folder: Path = Path("samples")) -> dict:
    return {"step": step, "index": index, "prompt": f"prompt {index}", "path": str(folder / f"{step}-{index}.png")}


def test_rows_are_steps_and_columns_are_prompts():
    samples = [sample(step, index) for step in (0, 10, 100) for index in range(2)]
    images, columns = arrange_samples(samples)
    assert columns == 2
    names = ["100-0.png", "100-1.png", "10-0.png", "10-1.png", "0-0.png", "0-1.png"]
    assert [Path(path).name for path, _ in images] == names
    assert images[1][1] == "step 100: prompt 1"


def test_a_missing_image_leaves_a_gap(tmp_path):
    images, columns = arrange_samples([sample(10, 0, tmp_path), sample(0, 0, tmp_path), sample(0, 1, tmp_path)])
    assert columns == 2
    assert [caption for _, caption in images] == [
        "step 10: prompt 0",
        "step 10: no image",
        "step 0: prompt 0",
        "step 0: prompt 1",
    ]
    # A file, as the others are: some webuis cannot show any other image.
    assert Image.open(images[1][0]).size == (64, 64)


@pytest.mark.parametrize(("count", "columns", "per_step"), [(6, 6, 6), (7, 4, 8), (16, 6, 18), (1, 1, 1)])
def test_steps_with_many_prompts_take_several_full_rows(count, columns, per_step, tmp_path):
    images, found = arrange_samples([sample(step, index, tmp_path) for step in (0, 5) for index in range(count)])
    assert (found, len(images)) == (columns, 2 * per_step)
    assert images[per_step][1] == "step 0: prompt 0"


def test_no_samples():
    assert arrange_samples([]) == ([], 1)
