"""Run folders, the log of a run, and the settings used last."""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Iterator
from pathlib import Path

from lib_pivotal.core.config.io import from_json, to_json
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.settings_file import read_settings_file

__all__ = ["load_last", "logging_to", "make_run_folder", "sample_path", "save_last"]

_LAST = "last.json"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def make_run_folder(data_root: Path, name: str) -> Path:
    """Make ``runs/<name>-<YYYYmmdd-HHMMSS>``, with a number behind it where that exists already.

    Args:
        data_root: our folder in the host.
        name: output name of the run, already checked as a file name.

    Raises:
        OSError: it cannot be made.
    """
    stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        tail = "" if number == 1 else f"-{number}"
        folder = data_root / "runs" / f"{name}-{stamp}{tail}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def sample_path(run_folder: Path, step: int, index: int) -> Path:
    """Where the engine's recorder writes a sample; its own function needs torch."""
    return run_folder / "samples" / f"step-{step:06d}-{index}.png"


def save_last(data_root: Path, config: TrainConfig) -> None:
    """Remember the settings of a run that starts.

    Raises:
        OSError: the folder cannot be written.
    """
    data_root.mkdir(parents=True, exist_ok=True)
    partial = data_root / (_LAST + ".partial")
    partial.write_text(to_json(config), encoding="utf-8")
    partial.replace(data_root / _LAST)


def load_last(data_root: Path) -> TrainConfig | None:
    """The settings of the run started last, or None before the first.

    Raises:
        ConfigError: the file cannot be read or understood.
    """
    path = data_root / _LAST
    return from_json(read_settings_file(path)) if path.exists() else None


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write the ``pivotal`` loggers, from INFO up, into a file as well."""
    logger = logging.getLogger("pivotal")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter(_FORMAT))
    level = logger.level
    logger.addHandler(handler)
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
