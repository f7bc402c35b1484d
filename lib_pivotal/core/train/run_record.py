"""``run.json`` in the run folder: what is trained, how long the run is, and how it ended.

Does not import torch, because the application starts without it.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from lib_pivotal.core.atomic_file import replacing

__all__ = ["RunRecord", "read_record", "record_end", "record_start"]

logger = logging.getLogger("pivotal.run_record")

_NAME = "run.json"
_VERSION = 1
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class RunRecord:
    """The record of a run.

    Attributes:
        family: family of the model, see ``core.families``; empty before training has begun.
        model_name: name of the model.
        total_steps: number of steps of the whole run; 0 before training has begun.
        outcome: how it ended: ``done``, ``stopped``, ``discarded`` or ``failed``. Empty while it is running; if it is
            not, the program or the computer was stopped.
        step: finished steps at the end.
        message: why it failed.
        seconds_per_step: wall-clock seconds, including samples and measurements; 0 if unknown.
    """

    family: str = ""
    model_name: str = ""
    total_steps: int = 0
    outcome: str = ""
    step: int = 0
    message: str = ""
    seconds_per_step: float = 0.0


def record_start(run: Path, *, family: str, model_name: str, total_steps: int) -> None:
    """Record that training begins; a failure is only logged, as nothing depends on it.

    Args:
        run: the run folder.
        family: see :class:`RunRecord`.
        model_name: see :class:`RunRecord`.
        total_steps: see :class:`RunRecord`.
    """
    _write(run, RunRecord(family, model_name, total_steps))


def record_end(run: Path, outcome: str, *, step: int = 0, message: str = "", seconds_per_step: float = 0.0) -> None:
    """Record how a run ended; a failure is only logged.

    If the run was to continue and could not even begin, the record stays as it is, as everything else of the run does.

    Args:
        run: the run folder.
        outcome: see :class:`RunRecord`.
        step: finished steps; 0 keeps what is recorded.
        message: see :class:`RunRecord`.
        seconds_per_step: see :class:`RunRecord`.
    """
    before = read_record(run)
    if before.outcome:
        return
    step = step or before.step
    _write(run, replace(before, outcome=outcome, step=step, message=message, seconds_per_step=seconds_per_step))


def _write(run: Path, record: RunRecord) -> None:
    try:
        with replacing(run / _NAME, keep=False) as partial:
            partial.write_text(json.dumps({"version": _VERSION, **asdict(record)}, indent=1), encoding="utf-8")
    except OSError as error:
        logger.warning("%s cannot be written: %s", run / _NAME, error)


def read_record(run: Path) -> RunRecord:
    """The record of a run; values that are missing or damaged have their defaults.

    Args:
        run: the run folder.
    """
    path = run / _NAME
    try:
        # Opening a pipe would never end.
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return RunRecord()
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return RunRecord()
    return RunRecord(**_valid(values)) if isinstance(values, Mapping) else RunRecord()


def _valid(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose types fit."""
    defaults = {item.name: item.default for item in fields(RunRecord)}
    return {
        name: values[name]
        for name, default in defaults.items()
        if type(values.get(name)) is type(default)
        and (isinstance(default, str) or (math.isfinite(values[name]) and values[name] >= 0))
    }
