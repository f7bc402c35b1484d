"""Runs inside the webui that a user cannot start: failing in the middle, or with the model taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.core.events import Control
from lib_pivotal.core.train.run import Folders, train

_taken: list[Any] = []


def train_broken(config: dict[str, Any], run: str, raise_at: int) -> dict[str, Any]:
    """Train as the session does, and fail in the middle of step ``raise_at``; 0 never."""
    from lib_pivotal.host.detect import current_host

    host, reason = current_host()
    assert host is not None, reason
    folder = Path(run)
    folder.mkdir(parents=True, exist_ok=True)
    folders = Folders(folder, host.lora_folder(), host.data_root() / "cache")
    settings, control = from_dict(config), Control()
    try:
        with host.exclusive("task(pivotal-e2e)") as sink, host.borrow(settings, control) as borrowed:
            if raise_at:
                _break(borrowed.model, raise_at)
            train(settings, borrowed.model, borrowed.sampler, [sink], control, folders, taken_names=host.taken_names())
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


CHECKS = (train_broken, lose_model, find_model)
