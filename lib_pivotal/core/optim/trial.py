"""Tries out the optimizer that the settings name, so that a run with it does not fail after the long preparations."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.optim.build import Optimizer, ParameterGroup
from lib_pivotal.core.optim.library import Library, find_library

__all__ = ["optimizer_problems"]

_FIELD, _ARGUMENTS = "optimizer", "optimizer_args"
_VALUES = 32
"""Values of each group in the trial."""
_MIN_MULTIPLIER = 0.01
_MAX_LION_LR = 1e-4


def optimizer_problems(
    name: str, arguments: str, lrs: Mapping[str, float], weight_decay: float, *, limits_change: bool = False
) -> list[Problem]:
    """Find out whether the LoRA can be trained with an optimizer, and a run with it resumed.

    Args:
        name: the setting ``optimizer``.
        arguments: the setting ``optimizer_args``.
        lrs: setting → base learning rate of a part of the LoRA, > 0.
        weight_decay: as in the settings.
        limits_change: whether the run limits the change of the weights after each step.
    """
    try:
        library = find_library(name, arguments)
    except ConfigError as error:
        return error.problems
    if library is None:
        return []
    if library.needs_cuda and not torch.cuda.is_available():
        text = f"{name} needs a GPU of NVIDIA, and there is none."
        return [Problem(_FIELD, "error", text, "Use another optimizer.")]
    if limits_change and library.is_schedule_free:
        text = f"{name} saves an average of the weights, which a limit for those in training does not reach."
        return [Problem("max_weight_change", "error", text, "Set it to 0, or use another optimizer.")]
    problems = _lr_problems(library, lrs)
    if any(problem.is_error for problem in problems):
        return problems
    return problems + _trial_problems(library, list(lrs.values()), weight_decay)


def _lr_problems(library: Library, lrs: Mapping[str, float]) -> list[Problem]:
    problems = []
    for field, lr in lrs.items():
        if library.finds_lr and lr < _MIN_MULTIPLIER:
            text = f"{library.name} finds the learning rate itself and multiplies it by this: {lr:g} learns nothing."
            problems.append(Problem(field, "error", text, "Set it to 1."))
        elif library.factory.__name__ == "Lion" and lr > _MAX_LION_LR:
            text = f"Lion changes every value by the whole learning rate in each step; {lr:g} is high for it."
            problems.append(Problem(field, "warning", text, "Use about a fifth of what suits AdamW, such as 4e-5."))
    return problems


def _trial_problems(library: Library, lrs: list[float], weight_decay: float) -> list[Problem]:
    try:
        continues = _continues(library, lrs, weight_decay)
    except Exception as error:
        # It is the code of others, which may fail in any way.
        text = f"{library.name} fails with these settings ({type(error).__name__}: {error})."
        field = _ARGUMENTS if isinstance(error, TypeError) and library.arguments else _FIELD
        return [Problem(field, "error", text, "Correct its arguments, or use another optimizer.")]
    if continues:
        return []
    text = f"{library.name} keeps values where no state can find them, so a resumed run would turn out differently."
    return [Problem(_FIELD, "warning", text, "Use another optimizer if you want to resume the run.")]


def _continues(library: Library, lrs: list[float], weight_decay: float) -> bool:
    """Whether four steps equal two and two with a state between them; raises whatever the library raises."""
    straight, stopped = (_Trial(library, lrs, weight_decay) for _ in range(2))
    straight.learn(range(4))
    stopped.learn(range(2))
    resumed = _Trial(library, lrs, weight_decay)
    resumed.take(stopped)
    resumed.learn(range(2, 4))
    if not torch.isfinite(straight.values()).all():
        message = "its weights become NaN or infinite"
        raise ArithmeticError(message)
    return torch.equal(straight.values(), resumed.values())


class _Trial:
    """Small parameters that are trained like those of a LoRA."""

    def __init__(self, library: Library, lrs: list[float], weight_decay: float) -> None:
        device = torch.device("cuda" if library.needs_cuda else "cpu")
        ramp = torch.linspace(-1.0, 1.0, _VALUES, device=device)
        self._groups = []
        for number, lr in enumerate(lrs):
            parameter = torch.nn.Parameter(0.01 * (number + 1) * ramp)
            parameter.grad = torch.zeros_like(parameter)
            self._groups.append(ParameterGroup(str(number), parameter, lr, weight_decay, is_lora=True))
        self._optimizer = Optimizer(self._groups, clip_norm=0.0, uses_fp16=False, device=device, library=library)

    def learn(self, steps: range) -> None:
        """Train towards a point that depends on the step; before the first step they are frozen once."""
        if steps[0] == 0:
            self._optimizer.set_learning_rates([0.0] * len(self._groups))
            self._optimizer.step()
        self._optimizer.set_learning_rates([1.0] * len(self._groups))
        for step in steps:
            for group in self._groups:
                assert group.parameter.grad is not None
                group.parameter.grad.copy_(group.parameter.detach() - step)
            self._optimizer.step()

    def take(self, other: _Trial) -> None:
        """Load values and state of another trial."""
        with torch.no_grad():
            for group, source in zip(self._groups, other._groups, strict=True):
                group.parameter.copy_(source.parameter)
        self._optimizer.load_state_tensors(other._optimizer.state_tensors())

    def values(self) -> torch.Tensor:
        """All values on the CPU, shape ``(count,)``."""
        return torch.cat([group.parameter.detach().cpu() for group in self._groups])
