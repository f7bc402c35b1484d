"""What ends a run that cannot learn: NaN gradients, an unloaded model; and batches without gradients, which do not."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.errors import HostError, TrainingDiverged
from lib_pivotal.core.events import Warned
from lib_pivotal.core.optim.build import Optimizer, ParameterGroup
from lib_pivotal.core.optim.flat import FlatParameters
from tests.runs.harness import folders, run
from tests.unit.toy import ToyModel, toy_config

needs_scaler = pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="torch 2.3 has it for the CPU, too")


@pytest.fixture
def scaler_on_cpu(monkeypatch):
    """Take the code path of a GPU, with the scaler and optimizer that run on the CPU."""
    monkeypatch.setattr("lib_pivotal.core.optim.build._scaler", lambda **_: torch.amp.GradScaler("cpu"))
    monkeypatch.setattr("lib_pivotal.core.optim.build._is_gpu", lambda device: True)


@needs_scaler
def test_the_first_batch_may_have_no_gradients(scaler_on_cpu):
    """While only the embeddings are trained, a batch of captions without a name gives no gradient."""
    group = FlatParameters("embedding", [(3,)], torch.device("cpu"))
    trained = [ParameterGroup("embedding", group.values, 0.1, 0.0)]
    optimizer = Optimizer(trained, clip_norm=1.0, uses_fp16=True, device=torch.device("cpu"))
    assert float(optimizer.step()["embedding"]) == 0.0
    optimizer.scaled((group.leaves[0] + 1.0).sum()).backward()
    optimizer.step()
    assert float(group.values.detach().abs().max()) > 0.0


@needs_scaler
def test_the_first_batch_after_a_resume_may_have_no_gradients(scaler_on_cpu):
    group = FlatParameters("embedding", [(3,)], torch.device("cpu"))
    trained = [ParameterGroup("embedding", group.values, 0.1, 0.0)]
    optimizer = Optimizer(trained, clip_norm=1.0, uses_fp16=True, device=torch.device("cpu"))
    optimizer.load_state_tensors({"scaler": torch.tensor([512.0, 7.0], dtype=torch.float64)})
    optimizer.step()
    assert optimizer.state_tensors()["scaler"].tolist() == [512.0, 8.0]


class BadGradients(ToyModel):
    """Its loss is finite, but its gradients are infinite in ``count`` steps from ``first`` on."""

    def __init__(self, first: int, count: int, *, scaled: bool) -> None:
        super().__init__()
        self.bad = range(first, first + count)
        self.needs_loss_scaling = scaled

    def predict(self, noisy, timesteps, condition):
        result = super().predict(noisy, timesteps, condition)
        if self.predictions in self.bad:
            result.register_hook(lambda gradient: gradient * float("inf"))
        return result


def test_nan_gradients_end_the_run(tmp_path, data):
    model = BadGradients(4, 100, scaled=False)
    # Every step encodes all captions in one group, so there is one prediction per step.
    with pytest.raises(TrainingDiverged, match="Gradients") as caught:
        run(toy_config(data, steps=30), folders(tmp_path), model)
    assert caught.value.step == 4
    assert read_bundle(tmp_path / "run-bundles" / "toy.safetensors").lora


def test_bad_gradients_are_tolerated_longer_with_loss_scaling(tmp_path, data):
    _, listener = run(toy_config(data, steps=24), folders(tmp_path, "a"), BadGradients(3, 19, scaled=True))
    assert not listener.of(Warned)
    config = toy_config(data, steps=54)
    _, listener = run(config, folders(tmp_path, "b"), BadGradients(3, 49, scaled=True))
    assert ["since step 3" in event.message for event in listener.of(Warned)] == [True]
    with pytest.raises(TrainingDiverged) as caught:
        run(config, folders(tmp_path, "c"), BadGradients(3, 50, scaled=True))
    assert caught.value.step == 3


def test_a_model_that_was_unloaded_is_given_as_the_reason(tmp_path, data):
    class Unloaded(ToyModel):
        """A model that is moved off its device in the middle of a step."""

        is_there = True

        def predict(self, noisy, timesteps, condition):
            if self.predictions == 4:
                self.is_there = False
                raise RuntimeError("Expected all tensors to be on the same device")
            return super().predict(noisy, timesteps, condition)

        def verify(self) -> None:
            if not self.is_there:
                raise HostError("The model was moved.", hint="Start again.")

    with pytest.raises(HostError, match="moved"):
        run(toy_config(data), folders(tmp_path), Unloaded())
    assert read_bundle(tmp_path / "run-bundles" / "toy.safetensors").lora
