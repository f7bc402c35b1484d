"""Requests made in the host reach a run while it encodes images and while it trains."""

from __future__ import annotations

import pytest

from lib_pivotal.core.events import Control, StepDone
from lib_pivotal.core.train.run import Folders, train
from tests.unit.toy import ToyModel, toy_config, write_images


class InterruptedModel(ToyModel):
    """A model whose host requests a stop at the given poll."""

    def __init__(self, control, at):
        super().__init__()
        self._control, self._at = control, at

    def poll_requests(self):
        super().poll_requests()
        if self.polls == self._at:
            self._control.stop()


class Steps:
    """Counts the steps of a run."""

    def __init__(self):
        self.count = 0

    def handle(self, event):
        self.count += isinstance(event, StepDone)


def run(tmp_path, at):
    write_images(tmp_path / "data", count=6)
    folders = Folders(tmp_path / "run", tmp_path / "bundles", tmp_path / "cache")
    folders.run.mkdir()
    control, steps = Control(), Steps()
    model = InterruptedModel(control, at)
    outcome = train(toy_config(tmp_path / "data"), model, None, [steps], control, folders)
    return outcome, steps.count, model


@pytest.mark.parametrize("batch", [1, 2])
def test_a_stop_while_images_are_encoded_ends_the_run_before_the_next_batch(tmp_path, batch):
    outcome, steps, model = run(tmp_path, batch)
    assert (outcome.outcome, steps) == ("stopped", 0)
    assert outcome.bundle_path is None
    assert model.polls == batch


def test_a_stop_while_training_finishes_the_step_and_keeps_what_is_trained(tmp_path):
    # Six images make three batches, so the fifth poll is that of the second step.
    outcome, steps, _model = run(tmp_path, 5)
    assert (outcome.outcome, outcome.step, steps) == ("stopped", 2, 2)
    assert outcome.bundle_path.exists()
