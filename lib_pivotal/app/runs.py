"""The settings used last."""

from __future__ import annotations

from pathlib import Path

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.config.io import from_json, to_json
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.settings_file import read_settings_file

__all__ = ["load_last", "save_last"]

_LAST = "last.json"


def save_last(data_root: Path, config: TrainConfig) -> None:
    """Remember the settings of a run that starts.

    Raises:
        OSError: the folder cannot be written.
    """
    data_root.mkdir(parents=True, exist_ok=True)
    with replacing(data_root / _LAST, keep=False) as partial:
        partial.write_text(to_json(config), encoding="utf-8")


def load_last(data_root: Path) -> TrainConfig | None:
    """The settings of the run started last, or None before the first.

    Raises:
        ConfigError: the file cannot be read or understood.
    """
    path = data_root / _LAST
    return from_json(read_settings_file(path)) if path.exists() else None
