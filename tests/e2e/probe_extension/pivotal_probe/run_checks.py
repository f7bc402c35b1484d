"""Runs inside the webui that a user cannot start: failing in the middle, or with the model taken away."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lib_pivotal
from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.core.events import Control, StepDone
from lib_pivotal.core.train import recording
from lib_pivotal.core.train.run import Folders, train

_taken: list[Any] = []


class Losses:
    """Collects the losses of a run."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def handle(self, event: Any) -> None:
        if isinstance(event, StepDone):
            self.found.append(event.loss)


def _train(config: dict[str, Any], run: str, raise_at: int = 0) -> list[float]:
    """Train as the session does; returns the losses."""
    from lib_pivotal.host.detect import current_host

    host, reason = current_host()
    assert host is not None, reason
    folder = Path(run)
    folder.mkdir(parents=True, exist_ok=True)
    folders = Folders(folder, host.lora_folder(), host.data_root() / "cache")
    settings, control, losses = from_dict(config), Control(), Losses()
    with host.exclusive("task(pivotal-e2e)") as sink, host.borrow(settings, control) as borrowed:
        if raise_at:
            _break(borrowed.model, raise_at)
        sinks = [sink, losses]
        train(settings, borrowed.model, borrowed.sampler, sinks, control, folders, taken_names=host.taken_names())
    return losses.found


def train_recorded(config: dict[str, Any], run: str) -> dict[str, Any]:
    """Train with stand-ins for CUDA graphs; returns the losses, and per recorder how often it recorded and repeated."""
    sys.path.append(str(Path(lib_pivotal.__file__).parents[1]))
    try:
        from tests.unit.recorder import Recorder
    finally:
        sys.path.pop()
    recorders: list[Recorder] = []

    def recorder(*_: Any) -> Recorder:
        recorders.append(Recorder())
        return recorders[-1]

    with patch.object(recording, "can_record", lambda device: True), patch.object(recording, "CudaGraphs", recorder):
        losses = _train(config, run)
    return {"losses": losses, "counts": [[each.recorded, each.repeated] for each in recorders]}


def train_broken(config: dict[str, Any], run: str, raise_at: int) -> dict[str, Any]:
    """Train as the session does, and fail in the middle of step ``raise_at``; 0 never."""
    try:
        _train(config, run, raise_at)
    except PivotalError as error:
        return {"error": str(error), "kind": type(error).__name__}
    except ZeroDivisionError:
        return {"error": "deliberate"}
    return {"error": ""}


def _break(model: Any, step: int) -> None:
    """Let the UNet fail after its forward pass of a step, when the graph is there and backward is not yet."""
    calls = []
    predict = model.predict

    def failing(*arguments: Any) -> Any:
        output = predict(*arguments)
        if output.requires_grad:
            calls.append(1)
        if len(calls) == step:
            raise ZeroDivisionError
        return output

    model.predict = failing


def lose_model() -> dict[str, int]:
    """Take the loaded model away, as a checkpoint switch that does not wait for the queue would."""
    from modules import sd_models

    _taken.append(sd_models.model_data.sd_model)
    sd_models.model_data.sd_model = None
    return {"done": 1}


def find_model() -> dict[str, int]:
    """Undo :func:`lose_model`."""
    from modules import sd_models

    sd_models.model_data.sd_model = _taken.pop()
    return {"done": 1}


CHECKS = (train_recorded, train_broken, lose_model, find_model)
