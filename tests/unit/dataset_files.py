"""Small datasets for tests, file by file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.findings import dataset_problems


def save_image(path: Path, size=(64, 64), color=(10, 200, 30), **options) -> Path:
    """A one-color image; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def write_captions(folder: Path, *captions: str, suffix: str = ".txt") -> None:
    """One image per caption, each in a different color: a0.png with a0.txt and so on."""
    for index, caption in enumerate(captions):
        save_image(folder / f"a{index}.png", color=(7 * index % 256, 90, 160))
        (folder / f"a{index}").with_suffix(suffix).write_bytes(caption.encode())


def problems_of(folder, tokenizer=None, **changes):
    """Every finding about a folder."""
    config = TrainConfig(**{"data_folder": str(folder), "resolution": 64, **changes})
    return dataset_problems(read_dataset(config), config, tokenizer)


def texts(problems, severity: str = "error") -> list[str]:
    return [str(problem) for problem in problems if problem.severity == severity]
