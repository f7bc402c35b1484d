"""The optimizer on a GPU: the same as on a CPU, and a bad step does no harm and forces no synchronization."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.optim.build import Optimizer, ParameterGroup
from lib_pivotal.core.optim.flat import FlatParameters


def build(
    device: torch.device, *, uses_fp16: bool = False, clip_norm: float = 1.0
) -> tuple[Optimizer, list[FlatParameters]]:
    groups = [FlatParameters(name, [(7,), (2, 3)], device) for name in ("unet", "clip_l")]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for group in groups:
            group.values.copy_(torch.randn(group.values.shape, generator=generator))
    trained = [ParameterGroup(group.name, group.values, 0.01, 0.1) for group in groups]
    return Optimizer(trained, clip_norm=clip_norm, uses_fp16=uses_fp16, device=device), groups


def learn(
    optimizer: Optimizer, groups: list[FlatParameters], step: int, factor: float = 1.0
) -> dict[str, torch.Tensor]:
    """One step whose gradients follow from the values, times ``factor``."""
    loss = torch.stack([((leaf - step) ** 2).sum() for group in groups for leaf in group.leaves]).sum() * factor
    optimizer.scaled(loss).backward()
    return optimizer.step()


def values(groups: list[FlatParameters]) -> torch.Tensor:
    return torch.cat([group.values.detach().cpu() for group in groups])


@pytest.mark.parametrize("uses_fp16", [False, True])
@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_it_learns_the_same_as_on_a_cpu(device: torch.device, clip_norm: float, *, uses_fp16: bool) -> None:
    there, there_groups = build(device, uses_fp16=uses_fp16, clip_norm=clip_norm)
    here, here_groups = build(torch.device("cpu"), clip_norm=clip_norm)
    for step in range(6):
        norms, expected = learn(there, there_groups, step), learn(here, here_groups, step)
        for name, norm in norms.items():
            assert norm.device.type == device.type
            assert float(norm) == pytest.approx(float(expected[name]), rel=1e-4)
    assert torch.allclose(values(there_groups), values(here_groups), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("uses_fp16", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_with_nan_gradients_changes_nothing(device: torch.device, bad: float, *, uses_fp16: bool) -> None:
    optimizer, groups = build(device, uses_fp16=uses_fp16)
    learn(optimizer, groups, 0)
    before, moments = values(groups), optimizer.state_tensors()
    norms = learn(optimizer, groups, 1, bad)
    assert not torch.isfinite(torch.stack(list(norms.values()))).any()
    assert torch.equal(values(groups), before)
    after = optimizer.state_tensors()
    assert all(torch.equal(after[key], moments[key]) for key in moments if key != "scaler")
    if uses_fp16:
        assert float(after["scaler"][0]) == 0.5 * float(moments["scaler"][0])
    assert all(not group.gradient.any() for group in groups)
    learn(optimizer, groups, 2)
    assert not torch.equal(values(groups), before)


def test_a_group_with_learning_rate_zero_keeps_its_values_and_moments(device: torch.device) -> None:
    optimizer, groups = build(device)
    learn(optimizer, groups, 0)
    optimizer.set_learning_rates([1.0, 0.0])
    before, moments = groups[1].values.detach().clone(), optimizer.state_tensors()
    norms = learn(optimizer, groups, 1)
    after = optimizer.state_tensors()
    assert float(norms["clip_l"]) == 0.0 and torch.equal(groups[1].values.detach(), before)
    assert all(torch.equal(after[key], value) for key, value in moments.items() if key.startswith("clip_l/"))
    assert not torch.equal(after["unet/exp_avg"], moments["unet/exp_avg"])


@pytest.mark.parametrize("uses_fp16", [False, True])
def test_a_saved_optimizer_continues_as_if_never_interrupted(device: torch.device, *, uses_fp16: bool) -> None:
    straight, straight_groups = build(device, uses_fp16=uses_fp16)
    for step in range(6):
        learn(straight, straight_groups, step)
    first, first_groups = build(device, uses_fp16=uses_fp16)
    for step in range(3):
        learn(first, first_groups, step)
    second, second_groups = build(device, uses_fp16=uses_fp16)
    with torch.no_grad():
        for group, old in zip(second_groups, first_groups, strict=True):
            group.values.copy_(old.values)
    second.load_state_tensors(first.state_tensors())
    for step in range(3, 6):
        learn(second, second_groups, step)
    assert torch.equal(values(second_groups), values(straight_groups))
    one, other = straight.state_tensors(), second.state_tensors()
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
