"""Optimizers of other packages: what is wrong with a choice is found before the run, and AdamW keeps the rest."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

import pytest
import torch

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.optim.build import Optimizer, ParameterGroup
from lib_pivotal.core.optim.engine import Engine
from lib_pivotal.core.optim.library import find_library, parse_arguments
from lib_pivotal.core.optim.trial import optimizer_problems
from lib_pivotal.core.train.checks import check

CPU = torch.device("cpu")
LRS = {"unet_lr": 1e-3}


class Forgetful(torch.optim.Optimizer):
    """Remembers its steps where no state can find them."""

    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.count = 0

    def step(self):
        self.count += 1
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.sub_(parameter.grad, alpha=group["lr"] / self.count)


class Counting(torch.optim.Optimizer):
    """Counts its steps in the parameter group, as Prodigy does, also while a parameter has no gradient."""

    def __init__(self, params, lr, weight_decay=0.0, factor=0.5):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "k": 0, "d": 1e-6, "factor": factor})

    def step(self):
        for group in self.param_groups:
            group["k"] += 1
            group["d"] += 1e-3 / group["k"]
            with torch.no_grad():
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.state[parameter]["last"] = group["d"]
                        parameter.sub_(parameter.grad, alpha=group["d"])


@pytest.fixture(autouse=True)
def package(monkeypatch):
    """A package that is installed."""
    module = types.ModuleType("pivotal_test_optimizers")
    module.Forgetful, module.Counting, module.answer = Forgetful, Counting, 42
    monkeypatch.setitem(sys.modules, module.__name__, module)


def problems_of(name, arguments="", lrs=LRS):
    return [(item.field, item.severity) for item in optimizer_problems(name, arguments, lrs, 1e-3)]


def test_adamw_without_arguments_needs_no_library():
    assert find_library("adamw", " ") is None
    library = find_library("adamw", "betas=0.9,0.95")
    assert library.factory is torch.optim.AdamW and library.arguments == {"betas": (0.9, 0.95)}


def test_arguments_are_python_literals():
    text = "betas=0.9,0.99  d_coef=0.8 use_speed=True eps=None name='x'"
    assert parse_arguments(text) == {
        "betas": (0.9, 0.99),
        "d_coef": 0.8,
        "use_speed": True,
        "eps": None,
        "name": "x",
    }
    for bad in ("betas", "=1", "a b=2", "d_coef=low", "x=__import__('os')", "lr=1", "weight_decay=0.1"):
        with pytest.raises(ConfigError) as caught:
            parse_arguments(bad)
        assert [item.field for item in caught.value.problems] == ["optimizer_args"]


def test_a_package_that_is_missing_is_named_as_pip_knows_it(monkeypatch):
    for name, module, package in (
        ("lion", "lion_pytorch", "lion-pytorch"),
        ("prodigy-plus", "prodigyplus", "prodigy-plus-schedule-free"),
        ("adamw8bit", "bitsandbytes", "bitsandbytes"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, f"{module}.optim", raising=False)
        (problem,) = optimizer_problems(name, "", LRS, 0.0)
        assert (problem.field, problem.severity) == ("optimizer", "error")
        assert f"pip install {package}" in problem.hint, name


def test_a_package_that_cannot_be_imported_is_not_called_missing(monkeypatch):
    def fail(name):
        raise RuntimeError("no CUDA library")

    monkeypatch.setattr(importlib, "import_module", fail)
    (problem,) = optimizer_problems("lion", "", LRS, 0.0)
    assert "no CUDA library" in problem.message and "not installed" not in problem.message


@pytest.mark.parametrize(
    "name",
    ["", "adam", "no spaces:X", "pivotal_test_optimizers", "pivotal_test_optimizers:answer", "pivotal_test_optimizers:No",
     "json:loads", "../x:Y", "no_such_package_of_ours.optim:X"],
)  # fmt: skip
def test_what_is_not_an_optimizer_is_refused(name):
    assert problems_of(name) == [("optimizer", "error")]


def test_eight_bits_need_a_gpu(monkeypatch):
    module = types.ModuleType("bitsandbytes.optim")
    module.AdamW8bit = type("AdamW8bit", (torch.optim.AdamW,), {"__module__": "bitsandbytes.optim.adamw"})
    monkeypatch.setitem(sys.modules, "bitsandbytes", types.ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (problem,) = optimizer_problems("adamw8bit", "", LRS, 0.0)
    assert problem.is_error and "GPU" in problem.message


def test_wrong_arguments_are_found_before_the_run():
    assert problems_of("pivotal_test_optimizers:Counting", "factor=0.1") == []
    assert problems_of("pivotal_test_optimizers:Counting", "factr=0.1") == [("optimizer_args", "error")]
    assert problems_of("torch.optim:SGD", "momentum=-1.0") == [("optimizer", "error")]
    assert problems_of("torch.optim:LBFGS") == [("optimizer", "error")]


def test_an_optimizer_that_cannot_be_resumed_exactly_is_pointed_out():
    assert problems_of("pivotal_test_optimizers:Forgetful") == [("optimizer", "warning")]


@pytest.mark.parametrize("name", ["prodigyopt:Prodigy", "prodigy-plus"])
def test_a_learning_rate_that_is_only_a_multiplier_must_not_be_tiny(name):
    pytest.importorskip("prodigyopt" if ":" in name else "prodigyplus", reason="an optional package is not installed")
    assert problems_of(name) == [("unet_lr", "error")]
    assert problems_of(name, lrs={"unet_lr": 1.0}) == []


def test_lion_with_the_usual_rate_is_pointed_out():
    pytest.importorskip("lion_pytorch", reason="an optional package is not installed")
    assert problems_of("lion", lrs={"unet_lr": 2e-4}) == [("unet_lr", "warning")]
    assert problems_of("lion", "beta=1", {"unet_lr": 2e-4}) == [("unet_lr", "warning"), ("optimizer_args", "error")]
    assert problems_of("lion", lrs={"unet_lr": 4e-5}) == []


def test_check_looks_only_if_there_is_a_lora_for_it(tmp_path):
    config = TrainConfig(concepts=(Concept("zog_x"),), optimizer="adam", output_name="x", data_folder=str(tmp_path))
    for rank, severity in ((4, "error"), (0, "warning")):
        found = check(TrainConfig(**{**config.__dict__, "rank": rank}), bundles=tmp_path, taken_names={}).problems
        assert [item.severity for item in found if item.field == "optimizer"] == [severity]


# -- groups


def groups_of(*names: str) -> list[ParameterGroup]:
    found = []
    for name in names:
        parameter = torch.nn.Parameter(torch.linspace(-1.0, 1.0, 7))
        parameter.grad = torch.zeros(7)
        found.append(ParameterGroup(name, parameter, 0.01, 0.0, is_lora=not name.startswith("zog")))
    return found


def learn(optimizer: Optimizer, factors: list[float], step: int = 0, scale: float = 1.0) -> dict[str, torch.Tensor]:
    optimizer.set_learning_rates(factors)
    for group in optimizer.groups:
        if group.parameter.grad is not None:
            group.parameter.grad.copy_((group.parameter.detach() - step - 2.0) * scale)
    return optimizer.step()


def counting(groups: list[ParameterGroup]) -> Optimizer:
    library = find_library("pivotal_test_optimizers:Counting", "")
    return Optimizer(groups, clip_norm=0.0, uses_fp16=False, device=CPU, library=library)


def test_embeddings_stay_with_adamw():
    groups, plain = groups_of("unet", "zog clip_l"), groups_of("unet", "zog clip_l")
    hosted, adamw = counting(groups), Optimizer(plain, clip_norm=0.0, uses_fp16=False, device=CPU)
    for step in range(3):
        learn(hosted, [1.0, 1.0], step)
        learn(adamw, [1.0, 1.0], step)
    assert torch.equal(groups[1].parameter, plain[1].parameter)
    assert not torch.equal(groups[0].parameter, plain[0].parameter)
    assert hosted.learning_rates == adamw.learning_rates == {"unet": 0.01, "zog clip_l": 0.01}


def test_while_the_lora_waits_its_optimizer_counts_no_steps():
    groups = groups_of("unet", "clip_l", "zog clip_l")
    optimizer = counting(groups)
    before = groups[0].parameter.detach().clone()
    learn(optimizer, [0.0, 0.0, 1.0])
    assert torch.equal(groups[0].parameter, before)
    assert not [key for key in optimizer.state_tensors() if not key.startswith("zog")]
    learn(optimizer, [1.0, 1.0, 0.0])
    assert optimizer.state_tensors()["clip_l/group/k"].item() == 1


@pytest.mark.parametrize("bad", [0, 1])
def test_one_bad_gradient_stops_both_optimizers(bad):
    groups = groups_of("unet", "zog clip_l")
    optimizer = counting(groups)
    learn(optimizer, [1.0, 1.0])
    before, state = [group.parameter.detach().clone() for group in groups], optimizer.state_tensors()
    optimizer.set_learning_rates([1.0, 1.0])
    for number, group in enumerate(groups):
        group.parameter.grad.fill_(float("nan") if number == bad else 1.0)
    optimizer.step()
    assert all(torch.equal(group.parameter, values) for group, values in zip(groups, before, strict=True))
    after = optimizer.state_tensors()
    assert all(torch.equal(after[key], state[key]) for key in state)
    assert all(not group.parameter.grad.any() for group in groups)


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="torch 2.3 has it for the CPU, too")
def test_with_a_loss_scale_both_optimizers_share_what_is_infinite(monkeypatch):
    groups, plain = groups_of("unet", "zog clip_l"), groups_of("unet", "zog clip_l")
    learn(counting(plain), [1.0, 1.0], 0)
    monkeypatch.setattr("lib_pivotal.core.optim.build._scaler", lambda **_: torch.amp.GradScaler("cpu", init_scale=8.0))
    monkeypatch.setattr("lib_pivotal.core.optim.build._is_gpu", lambda device: True)
    library = find_library("pivotal_test_optimizers:Counting", "")
    optimizer = Optimizer(groups, clip_norm=0.0, uses_fp16=True, device=CPU, library=library)
    learn(optimizer, [1.0, 1.0], 0, 8.0)
    # What was scaled has been divided again.
    assert all(torch.allclose(a.parameter, b.parameter) for a, b in zip(groups, plain, strict=True))
    before = [group.parameter.detach().clone() for group in groups]
    learn(optimizer, [1.0, 1.0], 1, float("inf"))
    assert all(torch.equal(group.parameter, values) for group, values in zip(groups, before, strict=True))
    assert optimizer.state_tensors()["scaler"].tolist() == [4.0, 0.0]
    learn(optimizer, [0.0, 1.0], 1, 4.0)
    assert torch.equal(groups[0].parameter, before[0]) and not torch.equal(groups[1].parameter, before[1])


def test_a_state_has_what_changes_in_the_parameter_group_and_no_more():
    groups = groups_of("unet")
    first = counting(groups)
    learn(first, [1.0])
    tensors = first.state_tensors()
    assert sorted(tensors) == ["unet/group/d", "unet/group/k", "unet/number/last"]
    again = groups_of("unet")
    with torch.no_grad():
        again[0].parameter.copy_(groups[0].parameter)
    second = counting(again)
    second.load_state_tensors(tensors)
    for optimizer in (first, second):
        learn(optimizer, [1.0], 1)
    assert torch.equal(again[0].parameter, groups[0].parameter)


def test_step_counts_of_another_shape_are_the_same_in_a_state():
    """Those of the fused kernel in torch 2.0 have one dimension."""

    def engine(shape: tuple[int, ...]) -> Engine:
        groups = groups_of("unet")
        return Engine(torch.optim.AdamW([groups[0].parameter]), groups, step_shape=shape)

    old, new = engine((1,)), engine(())
    for each in (old, new):
        each.groups[0].parameter.grad.fill_(1.0)
        each.optimizer.step()
    state = old.optimizer.state[old.groups[0].parameter]
    state["step"] = state["step"].reshape(1)
    tensors = old.state_tensors()
    assert tensors["unet/step"].shape == () and torch.equal(tensors["unet/step"], new.state_tensors()["unet/step"])
    old.load_state_tensors(tensors)
    new.load_state_tensors(tensors)
    assert old.optimizer.state[old.groups[0].parameter]["step"].shape == (1,)
    assert new.optimizer.state[new.groups[0].parameter]["step"].shape == ()


def test_adamw_trains_the_same_without_the_kernel_that_torch_has_for_cpus_since_2_4(monkeypatch):
    def learned() -> tuple[list[torch.Tensor], list[Any]]:
        groups = groups_of("unet", "zog clip_l")
        optimizer = Optimizer(groups, clip_norm=0.5, uses_fp16=False, device=CPU)
        for step in range(5):
            learn(optimizer, [1.0, 0.5], step)
        (engine,) = optimizer._engines
        return [group.parameter.detach() for group in groups], [
            entry["fused"] for entry in engine.optimizer.param_groups
        ]

    usual, fused = learned()
    assert fused == [True, True]
    monkeypatch.setattr(torch, "__version__", "2.3.1+cu121")
    older, fused = learned()
    assert fused == [None, None]
    torch.testing.assert_close(older, usual, rtol=1e-5, atol=1e-7)
