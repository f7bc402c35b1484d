"""What the folder of a run says about it. Damaged folders never raise here."""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_pivotal.app.loss_curve import LossCurve
from lib_pivotal.app.status import words_to_type
from lib_pivotal.core.config.io import read_dict, to_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.settings_file import parse_settings, read_settings_file
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.printable import printable
from lib_pivotal.core.train.recorder import read_last_losses, read_losses, read_validation
from lib_pivotal.core.train.run_record import RunRecord, read_record
from lib_pivotal.core.train.state_files import state_files
from lib_pivotal.core.train.step_bundles import kept_bundles, read_own_files, step_bundles

__all__ = ["RunFolder", "date_of", "is_run"]

logger = logging.getLogger("pivotal.history")

_STAMP = re.compile(r"-(\d{8}-\d{6})(?:-\d+)?")
_SAMPLE = re.compile(r"step-(\d{6,12})-(\d{1,4})\.png")
_SIGNS = ("run.json", "config.json", "loss.csv", "log.txt", "states", "samples")
"""A folder is a run if it has one of these."""
_AVERAGED = 50
"""How many of the last losses are averaged."""
_STATES = {"done": "finished", "stopped": "stopped", "discarded": "discarded", "failed": "failed"}


class RunFolder:
    """The folder of a run; everything is read when it is asked for.

    Args:
        path: the folder.
        name: as it is shown.
        bundles: folder of the bundles.
        is_running: whether the run is in progress.
    """

    def __init__(self, path: Path, name: str, bundles: Path, *, is_running: bool) -> None:
        self._path = path
        self._name = name
        self._bundles = bundles
        self._is_running = is_running

    def summary(self) -> dict[str, Any]:
        """A few plain values; those that are unknown are None or empty."""
        return self._summary()[0]

    def everything(self) -> dict[str, Any]:
        """The summary with settings, curves, samples, the steps to choose from, and the prompt that uses the bundle."""
        values, config = self._summary()
        validation = _tried(lambda: read_validation(self._path), [])
        samples = _samples(self._path)
        return {
            **values,
            "config": to_dict(config) if config is not None else None,
            "losses": LossCurve(_tried(lambda: read_losses(self._path), [])).points(),
            "validation": [dict.fromkeys(("caption", "name_only", "initialization")) | row for row in validation],
            "samples": samples,
            "steps": self._steps(validation, samples),
            "words": self._words(config),
        }

    def config(self) -> tuple[TrainConfig | None, str]:
        """The settings, and why they cannot be read."""
        try:
            config, problems = read_dict(parse_settings(read_settings_file(self._path / "config.json")))
        except (ConfigError, OSError) as error:
            return None, str(error)
        return config, "; ".join(map(str, problems))

    def _summary(self) -> tuple[dict[str, Any], TrainConfig | None]:
        folder = self._path
        record = read_record(folder)
        config, problem = self.config()
        losses = _tried(lambda: read_last_losses(folder), [])
        validation = _tried(lambda: read_validation(folder), [])
        states = state_files(folder / "states")
        samples = _samples(folder)
        step = max(losses[-1][0] if losses else 0, record.step)
        total = record.total_steps or (config.steps if config is not None else 0)
        last = [loss for _, loss in losses[-_AVERAGED:]]
        return {
            "name": self._name,
            "output_name": config.output_name if config is not None else "",
            "model": record.model_name,
            "family": record.family,
            "date": date_of(folder).isoformat(timespec="seconds"),
            "step": step,
            "total_steps": total,
            "loss": sum(last) / len(last) if last else None,
            "validation": validation[-1]["caption"] if validation else None,
            "state": "running" if self._is_running else _state(record, step, total),
            "message": record.message,
            "problem": problem,
            "sample": samples[-1]["path"] if samples else None,
            "states": [number for number, _ in states],
            "states_bytes": sum(_size(path) for _, path in states),
            "steps_bytes": sum(_size(path) for path in kept_bundles(folder)),
            "folder": str(folder),
        }, config

    def _steps(
        self, validation: Sequence[Mapping[str, float]], samples: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """The steps whose bundles were kept; the one with the least validation loss is marked."""
        measured = {int(row["step"]): row["caption"] for row in validation}
        steps = [
            {
                "step": step,
                "file": printable(path.name, None),
                "validation": measured.get(step),
                "samples": [sample["path"] for sample in samples if sample["step"] == step],
                "is_best": False,
            }
            for step, path in _tried(lambda: step_bundles(self._path, self._bundles), {}).items()
        ]
        known = [item for item in steps if item["validation"] is not None]
        if len(known) > 1:
            min(known, key=lambda item: item["validation"])["is_best"] = True
        return steps

    def _words(self, config: TrainConfig | None) -> str:
        """The prompt that uses the bundle; empty if the bundle is gone."""
        name = read_own_files(self._path, self._bundles).bundle_name
        if config is None or not name or not (self._bundles / f"{name}.safetensors").is_file():
            return ""
        return words_to_type(config, name)


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run."""
    return any((path / name).exists() for name in _SIGNS)


def _state(record: RunRecord, step: int, total: int) -> str:
    if record.outcome:
        return _STATES.get(record.outcome, "interrupted")
    # Runs of earlier releases have no record.
    is_old_and_complete = not record.family and 0 < total <= step
    return "finished" if is_old_and_complete else "interrupted"


def _samples(folder: Path) -> list[dict[str, Any]]:
    """The sample images: step, index and path, in this order."""
    try:
        files = [(match, path) for path in (folder / "samples").iterdir() if (match := _SAMPLE.fullmatch(path.name))]
    except OSError:
        return []
    found = [{"step": int(match[1]), "index": int(match[2]), "path": str(path)} for match, path in files]
    return sorted(found, key=lambda sample: (sample["step"], -sample["index"]))


def date_of(folder: Path) -> datetime.datetime:
    """When the run began, by its name, or when the folder changed last."""
    match = _STAMP.search(folder.name)
    try:
        if match:
            return datetime.datetime.strptime(match[1], "%Y%m%d-%H%M%S").astimezone()
        return datetime.datetime.fromtimestamp(folder.stat().st_mtime).astimezone()
    except (ValueError, OSError, OverflowError):
        return datetime.datetime.fromtimestamp(0).astimezone()


def _size(path: Path) -> int:
    return int(_tried(lambda: path.stat().st_size, 0))


def _tried(read: Any, otherwise: Any) -> Any:
    """What ``read`` returns; ``otherwise`` if the files are damaged."""
    try:
        return read()
    except (OSError, ValueError, KeyError, OverflowError):
        logger.warning("a file of a run cannot be read", exc_info=True)
        return otherwise
