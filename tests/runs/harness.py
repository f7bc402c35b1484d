"""Whole training runs of the toy model, for tests of training: run one, stop one, record its events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control, StepDone
from lib_pivotal.core.ports import Sample
from lib_pivotal.core.train.run import Folders, train
from tests.unit.toy import ToyModel


class Listener:
    """Records events; can stop the run after a step."""

    def __init__(self, control: Control | None = None, stop_at: int = 0, *, discard: bool = False) -> None:
        self.events: list[Any] = []
        self.control, self.stop_at, self.discard = control, stop_at, discard

    def handle(self, event) -> None:
        self.events.append(event)
        if isinstance(event, StepDone) and event.step == self.stop_at:
            assert self.control is not None
            self.control.stop(discard=self.discard)

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.events if isinstance(event, StepDone)]

    def of(self, kind) -> list:
        return [event for event in self.events if isinstance(event, kind)]


class ImageMaker:
    """A sampler whose preview images have a single color."""

    def make(self, request, embeddings):
        return Sample(Image.new("RGB", (8, 8), (1, 2, 3)), "info")


def folders(tmp_path: Path, name: str = "run") -> Folders:
    """The folders of a run; the run folder is created."""
    (tmp_path / name).mkdir(exist_ok=True)
    return Folders(tmp_path / name, tmp_path / f"{name}-bundles", tmp_path / "cache")


def run(config: TrainConfig, where: Folders, model=None, listener=None, control=None, sampler=None, resume_from=None):
    """Train; returns the outcome and the listener, which are made where none are given."""
    control = control or Control()
    listener = listener or Listener(control)
    model = model or ToyModel()
    return train(config, model, sampler, [listener], control, where, resume_from=resume_from), listener


def stopped_run(config: TrainConfig, where: Folders, at: int = 4, **options):
    """Train and stop after the step ``at``; the options are those of ``run``."""
    control = Control()
    return run(config, where, listener=Listener(control, at), control=control, **options)


def rewrite_state(path: Path, *, facts=None, tensors=None) -> None:
    """Change facts or tensors in the file of a resume state; None removes one."""
    with safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()["pivotal_state"])
        values = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for changes, into in ((facts or {}, header), (tensors or {}, values)):
        for key, value in changes.items():
            into.pop(key, None)
            if value is not None:
                into[key] = value
    save_file(values, path, {"pivotal_state": json.dumps(header)})
