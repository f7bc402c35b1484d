"""The examples of docs/datasets.md are read as the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset_lines import read_subset_lines
from lib_pivotal.core.data.dataset_report import read_dataset
from tests.unit.dataset_files import save_image

BLOCKS = re.findall(
    r"^```(?:json)?\n(.*?)^```",
    (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8").partition("\n## Images")[0],
    re.MULTILINE | re.DOTALL,
)


def make(tree: str, folder: Path) -> Path:
    """Make the files of an example: indented names, then the contents of text files."""
    root = folder / tree.split("/", 1)[0]
    for number, line in enumerate(tree.splitlines()[1:]):
        name, _, content = line.strip().partition("  ")
        if name.endswith(".png"):
            save_image(root / name, color=(9 * number, 1, 1))
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content.strip())
    return root


def read(folder: Path) -> dict[str, tuple[str | None, float]]:
    images = read_dataset(TrainConfig(data_folder=str(folder))).images
    return {image.shown: (image.caption, image.repeats) for image in images}


def test_the_tree_of_captions(tmp_path):
    assert read(make(BLOCKS[0], tmp_path)) == {
        "cut/a.png": ("zog on a hill, hat, sunset", 1),
        "cut/b.png": ("zog in the rain", 1),
        "10_zog robot/c.png": ("zog robot", 10),
        "10_zog robot/d.png": ("zog (mib), hat, tree", 10),
    }


def test_the_tree_of_repeats(tmp_path):
    assert read(make(BLOCKS[1], tmp_path)) == {"booru/2_characters/A+B/a.png": (None, 3.5)}


def test_further_folders():
    config = from_dict(json.loads(BLOCKS[2]))
    assert [subset.kind for subset in config.subsets] == ["train", "regularization"]
    found = read_subset_lines(BLOCKS[3])
    assert not found.problems
    assert found.subsets[0] == config.subsets[0]
    assert found.subsets[1].caption_prefix == "photo ||| "
