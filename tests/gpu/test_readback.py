"""Numbers come back from a GPU in order and completely, without making it wait."""

from __future__ import annotations

import torch

from lib_pivotal.core.train.readback import Readback


def test_all_numbers_arrive_in_order(device: torch.device) -> None:
    readback, arrived = Readback(), []
    for step in range(50):
        readback.push(step, torch.tensor([float(step), step / 4], device=device))
        arrived += readback.arrived()
        assert step - len(arrived) < 2
    arrived += readback.arrived(wait=True)
    assert arrived == [(step, [float(step), step / 4]) for step in range(50)]


def test_pending_numbers_are_not_waited_for(device: torch.device) -> None:
    readback = Readback()
    large = torch.randn(4096, 4096, device=device)
    torch.cuda.synchronize()
    for _ in range(60):
        large = large @ large * 1e-3
    readback.push(1, large[0, :2] * 0.0)
    assert readback.arrived() == []
    assert len(readback.arrived(wait=True)) == 1
