"""Token vectors are replaced only within the context, at exactly the given positions."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.textual_inversion.replaced_rows import replaced_rows

IDS = torch.tensor([[0, 1, 2], [3, 4, 5]])


def table():
    torch.manual_seed(0)
    return torch.nn.Embedding(10, 4).requires_grad_(False)


def test_the_given_positions_are_replaced_and_nothing_stays_behind():
    module = table()
    before = module(IDS)
    vectors = torch.randn(2, 4, dtype=torch.float32, requires_grad=True)
    with replaced_rows(module, torch.tensor([0, 1]), torch.tensor([2, 0]), vectors):
        output = module(IDS)
    assert torch.equal(output[0, 2], vectors[0])
    assert torch.equal(output[1, 0], vectors[1])
    untouched = torch.tensor([[True, True, False], [False, True, True]])
    assert torch.equal(output[untouched], before[untouched])
    assert torch.equal(module(IDS), before)
    output.sum().backward()
    assert torch.equal(vectors.grad, torch.ones(2, 4))
    assert module.weight.grad is None


def test_an_error_inside_leaves_no_hook():
    module = table()
    before = module(IDS)
    with (
        pytest.raises(ZeroDivisionError),
        replaced_rows(module, torch.tensor([0]), torch.tensor([0]), torch.ones(1, 4)),
    ):
        raise ZeroDivisionError
    assert torch.equal(module(IDS), before)


def test_without_positions_no_hook_is_registered():
    module, nothing = table(), torch.empty(0, dtype=torch.int64)
    with replaced_rows(module, nothing, nothing, torch.empty(0, 4)):
        assert not module._forward_hooks


def test_vectors_take_the_type_of_the_module():
    module = table().to(torch.bfloat16)
    with replaced_rows(module, torch.tensor([0]), torch.tensor([1]), torch.ones(1, 4, dtype=torch.float32)):
        output = module(IDS)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output[0, 1], torch.ones(4, dtype=torch.bfloat16))
