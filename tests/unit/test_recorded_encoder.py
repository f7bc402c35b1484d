"""Text encoders that run as recorded graphs give what usual ones give, and run as usual where that is impossible."""

from __future__ import annotations

import logging

import pytest
import torch

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.events import Control
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.negative_rows import NegativeRows, with_negative_rows
from lib_pivotal.core.ports import LoraTarget
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train import recording
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.recorded_encoder import RecordedEncoder
from tests.unit.recorder import Recorder
from tests.unit.test_step_graphs import prepared
from tests.unit.toy import ToyEncoder

SETTINGS = {
    "plain": {},
    "accumulated, with a text encoder's LoRA": {"accumulation": 2, "text_encoder_rank": 2},
    "a text encoder's LoRA that waits": {"lora_start": 0.5, "text_encoder_rank": 2},
    "a name that is frozen": {"concepts": (Concept("zog_x", "red hat", stop_at=0.5),), "text_encoder_rank": 2},
    "only a name, which is frozen": {"concepts": (Concept("zog_x", "red hat", stop_at=0.6),)},
    "captions without names": {"caption_dropout": 0.5, "name_only": 0.0},
    "batches of several captions": {"batch_size": 3, "tag_dropout": 0.5},
}


def trained(setup, steps: int = 14) -> list[torch.Tensor]:
    loop = Loop(setup, None, lambda _: None, Control(), SingleProcess())
    with setup.attached():
        for step in range(steps):
            loop.train_step(step)
    values = [part.flat.values.detach().clone() for part in setup.adapters]
    return values + [table.weight.detach().clone() for table in setup.tables.values()]


@pytest.mark.parametrize("name", SETTINGS)
def test_whole_runs_learn_the_same(tmp_path, monkeypatch, name):
    usual = trained(prepared(tmp_path, **SETTINGS[name]))
    recorders: list[Recorder] = []
    monkeypatch.setattr(recording, "can_record", lambda device: True)
    monkeypatch.setattr(recording, "CudaGraphs", lambda device, needed: recorders.append(Recorder()) or recorders[-1])
    found = trained(prepared(tmp_path, **SETTINGS[name]))
    assert len(recorders) == 2, "the text encoder and the UNet share no memory"
    for recorder in recorders:
        assert recorder.repeated > recorder.recorded > 0
        assert recorder.cleared >= 1
    for one, other in zip(usual, found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


class Case:
    """An encoder with a LoRA, and captions for it."""

    def __init__(self, recorder: Recorder) -> None:
        torch.manual_seed(0)
        self.usual, self.recorder = ToyEncoder(), recorder
        target = LoraTarget("lora_te_x", "clip_l", "attention", self.usual.layer.linear1)
        self.lora = AdapterSet.with_ranks("clip_l", [(target, 2)], 1.0, 1, torch.device("cpu"))
        with torch.no_grad():
            self.lora.flat.values.normal_()
        self.encoder = RecordedEncoder(self.usual, [self.lora], recorder, 1e-2)
        self.table = torch.randn(5, 16, requires_grad=True)

    def encoded(self, encoder, seed: int, *, trained: bool = True) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(10, 200, (2, 77), generator=generator)
        rows, columns = torch.tensor([0, 1, 1]), 1 + torch.randperm(70, generator=generator)[:3]
        vectors = (self.table if trained else self.table.detach())[torch.randint(0, 5, (3,), generator=generator)]
        return encoder.encode(ids, rows, columns, vectors).hidden

    def gradients(self, hidden: torch.Tensor, seed: int) -> list[torch.Tensor]:
        self.table.grad = None
        self.lora.flat.clear_gradient()
        hidden.backward(torch.randn(hidden.shape, generator=torch.Generator().manual_seed(seed)))
        found = [self.lora.flat.gradient.clone()]
        return found if self.table.grad is None else [*found, self.table.grad]

    def check(self, seed: int, **options) -> None:
        """The encoder gives what the usual one gives."""
        hidden, right = self.encoded(self.encoder, seed, **options), self.encoded(self.usual, seed, **options)
        torch.testing.assert_close(hidden, right)
        found, expected = self.gradients(hidden, seed), self.gradients(right, seed)
        assert len(found) == len(expected)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def case():
    made = Case(Recorder())
    with attach([made.lora]):
        yield made


@pytest.mark.parametrize("trains", ["both", "vectors", "lora"])
def test_outputs_and_gradients_are_the_usual_ones(case, trains):
    case.lora.enabled = trains != "vectors"
    for seed in range(6):
        repeated = case.recorder.repeated
        # Gradients of an earlier batch stay.
        case.lora.flat.gradient.fill_(7.0)
        hidden = case.encoded(case.encoder, seed, trained=trains != "lora")
        assert bool((case.lora.flat.gradient == 7.0).all())
        case.gradients(hidden, seed)
        case.check(seed, trained=trains != "lora")
        assert (case.recorder.repeated > repeated) == (seed >= 1), "recorded when seen for the third time"
    assert case.recorder.recorded == 2, "forward and backward pass"


@pytest.mark.parametrize("fault", ["fails", "forgets"])
def test_where_recording_goes_wrong_the_encoder_runs_as_usual(caplog, fault):
    case = Case(Recorder(**{fault: True}))
    with attach([case.lora]), caplog.at_level(logging.WARNING, logger="pivotal.train"):
        case.lora.enabled = False
        for seed in range(6):
            case.check(seed)
    assert case.recorder.recorded == (1 if fault == "fails" else 2)
    assert "as usual" in caplog.text
    assert not case.encoder._recorded


def test_a_second_use_before_the_first_is_over_is_a_usual_one(case):
    for seed in range(4):
        case.check(seed)
    first = case.encoded(case.encoder, 10)
    repeated = case.recorder.repeated
    second = case.encoded(case.encoder, 11)
    assert case.recorder.repeated == repeated
    for hidden, seed in ((second, 11), (first, 10)):
        found = case.gradients(hidden, seed)
        torch.testing.assert_close(found, case.gradients(case.encoded(case.usual, seed), seed), rtol=1e-4, atol=1e-5)
    # Over is also what nobody holds any more.
    first = case.encoded(case.encoder, 12)
    del first
    repeated = case.recorder.repeated
    case.check(13)
    assert case.recorder.repeated == repeated + 2


def test_only_encodings_that_are_trained_are_recorded(case):
    with torch.no_grad():
        for seed in range(5):
            case.encoded(case.encoder, seed)
    with with_negative_rows(NegativeRows(1, 2)):
        for seed in range(5):
            case.check(seed)
    case.lora.enabled = False
    for seed in range(5):
        assert not case.encoded(case.encoder, seed, trained=False).requires_grad
    assert case.recorder.recorded == 0
    assert case.encoder._recorded.is_usable


def test_a_lora_that_starts_or_is_switched_off_gets_graphs_of_its_own(case):
    for enabled in (False, True, False):
        case.lora.enabled = enabled
        for seed in range(4):
            case.check(seed)
    assert case.recorder.recorded == 4


def test_gradients_stay_when_the_next_batch_is_encoded(case):
    for seed in range(3):
        case.check(seed)
    found = []
    for seed in (1, 2):
        vectors = torch.ones(3, 16, requires_grad=True)
        places = torch.tensor([0, 1, 1]), torch.tensor([1, 2, 3])
        hidden = case.encoder.encode(torch.full((2, 77), 20), *places, vectors).hidden
        hidden.backward(torch.randn(hidden.shape, generator=torch.Generator().manual_seed(seed)))
        found.append((vectors.grad, vectors.grad.clone()))
    for gradient, then in found:
        assert torch.equal(gradient, then)
    assert not torch.equal(found[0][0], found[1][0])


def test_without_room_nothing_is_recorded(case):
    case.recorder.room = False
    for seed in range(5):
        case.check(seed)
    assert case.recorder.recorded == 0
    assert case.recorder.asked == 1, "asking empties torch's cache"


def test_graphs_are_made_again_when_the_weights_have_moved(case):
    for seed in range(4):
        case.check(seed)
    for module in case.usual.module.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                module._parameters[name] = torch.nn.Parameter(weight.detach() * 1.5, requires_grad=False)
    case.check(5)
    assert case.recorder.cleared == 1
    assert case.recorder.recorded == 4
    case.encoder.clear()
    assert case.recorder.cleared == 2
