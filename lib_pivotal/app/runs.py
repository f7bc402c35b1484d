"""Saves and loads the settings of the last run."""

from __future__ import annotations

from pathlib import Path

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.config.io import from_json, to_json
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.settings_file import read_settings_file

__all__ = ["load_last", "save_last"]

_LAST = "last.json"


def save_last(data_root: Path, config: TrainConfig) -> None:
    """Save the settings of a run that is about to start.

    Raises:
        OSError: the file cannot be written.
    """
    data_root.mkdir(parents=True, exist_ok=True)
    with replacing(data_root / _LAST, keep=False) as partial:
        partial.write_text(to_json(config), encoding="utf-8")


def load_last(data_root: Path) -> TrainConfig | None:
    """The settings of the run started last, or None before the first.

    Raises:
        ConfigError: the file cannot be read or parsed.
    """
    path = data_root / _LAST
    return from_json(read_settings_file(path)) if path.exists() else None
