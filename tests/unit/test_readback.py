"""Numbers read back from a GPU: in order, at most two steps late, none lost; with simulated events."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.train import readback as readback_module
from lib_pivotal.core.train.readback import Readback


class OnGpu(torch.Tensor):
    """A tensor that claims to be on a GPU."""

    @property
    def device(self):
        return torch.device("cuda", 1)


class HandMadeEvent:
    """An event that completes when the test says so, or when it is waited for."""

    made: list[HandMadeEvent]

    def __init__(self) -> None:
        self.is_recorded = self.is_over = False
        self.waits = 0
        self.made.append(self)

    def record(self, stream: str) -> None:
        assert stream == "stream of cuda:1", "the copy is made on the stream of the tensor's GPU"
        self.is_recorded = True

    def query(self) -> bool:
        assert self.is_recorded
        return self.is_over

    def synchronize(self) -> None:
        assert self.is_recorded
        self.waits += 1
        self.is_over = True


@pytest.fixture
def events(monkeypatch):
    """The events made so far, oldest first."""
    empty = torch.empty
    HandMadeEvent.made = []
    monkeypatch.setattr(readback_module.torch.cuda, "Event", HandMadeEvent)
    monkeypatch.setattr(readback_module.torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    # There is no pinned memory without CUDA.
    monkeypatch.setattr(
        readback_module.torch,
        "empty",
        lambda shape, dtype, pin_memory: empty(shape, dtype=dtype) if pin_memory else None,
    )
    return HandMadeEvent.made


def values(step: int) -> torch.Tensor:
    return torch.tensor([float(step), step / 4]).as_subclass(OnGpu)


def sent(step: int) -> tuple[int, list[float]]:
    return step, [float(step), step / 4]


def test_numbers_on_a_cpu_are_available_at_once():
    readback = Readback()
    readback.push(1, torch.tensor([1.0, 0.25]))
    readback.push(2, torch.tensor([2.0, 0.5]))
    assert readback.arrived() == [sent(1), sent(2)]
    assert readback.arrived(wait=True) == []


def test_one_or_two_pending_numbers_are_not_waited_for(events):
    readback = Readback()
    for step in (1, 2):
        readback.push(step, values(step))
        assert readback.arrived() == []
    assert [event.waits for event in events] == [0, 0]
    events[0].is_over = True
    assert readback.arrived() == [sent(1)]
    events[1].is_over = True
    assert readback.arrived() == [sent(2)]
    assert [event.waits for event in events] == [0, 0]


def test_the_oldest_of_three_is_waited_for(events):
    readback = Readback()
    for step in (1, 2, 3):
        readback.push(step, values(step))
    assert readback.arrived() == [sent(1)]
    assert [event.waits for event in events] == [1, 0, 0]


def test_a_number_that_arrives_early_stays_in_order(events):
    readback = Readback()
    for step in (1, 2):
        readback.push(step, values(step))
    events[1].is_over = True
    assert readback.arrived() == []
    events[0].is_over = True
    assert readback.arrived() == [sent(1), sent(2)]


def test_all_numbers_are_waited_for_at_the_end(events):
    readback = Readback()
    for step in (1, 2):
        readback.push(step, values(step))
    assert readback.arrived(wait=True) == [sent(1), sent(2)]
    assert [event.waits for event in events] == [1, 1]


def test_later_changes_to_a_tensor_do_not_change_its_number(events):
    readback, mine = Readback(), values(1)
    readback.push(1, mine)
    mine.zero_()
    assert readback.arrived(wait=True) == [sent(1)]
