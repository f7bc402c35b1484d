"""Recording on a GPU, again after the first graphs are gone, and after a recording that failed."""

from __future__ import annotations

import contextlib
import gc

import pytest
import torch

from lib_pivotal.core.train import cuda_graph
from lib_pivotal.core.train.cuda_graph import CudaGraphs, can_record


@pytest.fixture(autouse=True)
def _only_where_graphs_are_used(device):
    if not can_record(device):
        pytest.skip("steps are not recorded with this version or these settings of torch")


def product(device):
    """Work with a library that keeps working memory of its own, and its right result."""
    x = torch.randn(256, 256, device=device, requires_grad=True)
    weight = torch.randn(256, 256, device=device)

    def work():
        x.grad = None
        loss = (x @ weight).pow(2).mean()
        loss.backward()
        return loss.detach()

    return work, (x.detach() @ weight).pow(2).mean()


def works_as_before(device):
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.isfinite(torch.randn(8, device=device)).all()
    held = torch.cuda.memory_reserved()
    big = torch.empty(64 * 2**20, device=device)
    del big
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= held


def test_recording_works_again_after_the_graphs_are_gone_and_memory_comes_back(device):
    graphs = CudaGraphs(device, 0)
    work, right = product(device)
    held = []
    for _ in range(3):
        graphs.warm_up(work)
        replay, loss = graphs.record(work)
        replay()
        assert float(loss) == pytest.approx(float(right), rel=1e-3)
        del replay, loss
        gc.collect()
        graphs.clear()
        held.append(torch.cuda.memory_reserved())
    assert held[2] <= held[1]
    works_as_before(device)


@pytest.mark.parametrize("waits", [False, True])
def test_a_recording_that_fails_leaves_torch_usable(device, waits, monkeypatch):
    """A wait ends the recording for CUDA itself, an error of Python does not."""
    graphs = CudaGraphs(device, 0)
    work, _ = product(device)
    fails: list[bool] = []

    def failing():
        loss = work()
        if fails:
            if not waits:
                raise ValueError("an error of Python")
            loss.item()
        fails.append(True)
        return loss

    # The trial would notice the wait.
    monkeypatch.setattr(cuda_graph, "_no_waits", contextlib.nullcontext)
    with pytest.raises((ValueError, RuntimeError)):
        graphs.record(failing)
    works_as_before(device)
    graphs.clear()
    replay, _ = graphs.record(work)
    replay()
    works_as_before(device)
