"""Hosts an optimizer of any class: which groups it trains, and what it must remember to continue exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Engine", "ParameterGroup"]

_NUMBER = "number/"
"""Marks numbers that the optimizer keeps for a parameter as Python numbers, in names of tensors in a state."""
_GROUP = "group/"
"""Marks values of a parameter group, such as the learning rate that Prodigy has found."""
_SETTINGS = ("params", "lr", "weight_decay")
_STEP = "step"


@dataclass
class ParameterGroup:
    """A parameter of the optimizer and how it is trained.

    Attributes:
        name: shown in logs and used in state files: ``unet``, ``clip_l``, ``zog_v1 clip_l``.
        parameter: fp32 with a preset gradient, any shape.
        lr: base learning rate, > 0.
        weight_decay: AdamW's weight decay, ≥ 0.
        is_lora: whether the optimizer that the settings choose for the LoRA trains it.
    """

    name: str
    parameter: torch.nn.Parameter
    lr: float
    weight_decay: float
    is_lora: bool = False


class Engine:
    """An optimizer and the groups that it trains.

    Args:
        optimizer: a ``torch.optim.Optimizer`` that has one parameter group for each of ``groups``, in their order.
        groups: at least one.
        is_schedule_free: whether it has modes for training and for using the weights.
        keeps_step_on_cpu: whether step counts among its tensors stay on the CPU.
        step_shape: shape of these tensors, which are 0-dim in a state; None leaves them as they are.
    """

    def __init__(
        self,
        optimizer: Any,
        groups: Sequence[ParameterGroup],
        *,
        is_schedule_free: bool = False,
        keeps_step_on_cpu: bool = True,
        step_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.groups = list(groups)
        self._keeps_step_on_cpu = keeps_step_on_cpu
        self._step_shape = step_shape
        self._is_schedule_free = is_schedule_free
        if is_schedule_free:
            self.optimizer.train()
        entries: list[dict[str, Any]] = self.optimizer.param_groups
        self._entries = dict(zip((group.name for group in groups), entries, strict=True))
        self._initial = {name: dict(entry) for name, entry in self._entries.items()}

    @property
    def is_training(self) -> bool:
        """Whether any of its groups is not frozen; otherwise it must not step, since some count their steps."""
        return any(group.parameter.grad is not None for group in self.groups)

    def set_lr(self, name: str, lr: float) -> None:
        """Set the learning rate of a group."""
        self._entries[name]["lr"] = lr

    def lr(self, name: str) -> float:
        """The learning rate of a group."""
        return float(self._entries[name]["lr"])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context the parameters have the values to be saved and shown; afterwards exactly those of before.

        Without a schedule-free optimizer these are the same values.
        """
        if not self._is_schedule_free:
            yield
            return
        # Switching back and forth rounds, and previews must not change the training.
        kept = [group.parameter.detach().clone() for group in self.groups]
        self.optimizer.eval()
        try:
            yield
        finally:
            self.optimizer.train()
            with torch.no_grad():
                for group, values in zip(self.groups, kept, strict=True):
                    group.parameter.copy_(values)

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """All that it remembers, as copies on the CPU: ``group name/key`` → tensor of any shape; numbers are 0-dim."""
        result = {}
        for group in self.groups:
            for key, value in self.optimizer.state.get(group.parameter, {}).items():
                mark = "" if isinstance(value, torch.Tensor) else _NUMBER
                tensor = _as_tensor(value)
                is_count = key == _STEP and self._step_shape is not None
                result[f"{group.name}/{mark}{key}"] = tensor.reshape(()) if is_count else tensor
            for key, value in self._changed(group.name).items():
                result[f"{group.name}/{_GROUP}{key}"] = _as_tensor(value)
        return result

    def _changed(self, name: str) -> dict[str, Any]:
        """Numbers and tensors of a parameter group that are not what they were at the start."""
        initial = self._initial[name]
        return {
            key: value
            for key, value in self._entries[name].items()
            if key not in _SETTINGS
            and isinstance(value, (bool, int, float, torch.Tensor))
            and (isinstance(value, torch.Tensor) or key not in initial or value != initial[key])
        }

    def load_state_tensors(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Restore the tensors of :meth:`state_tensors`; a group that was never stepped stays new."""
        for group in self.groups:
            prefix = f"{group.name}/"
            entries = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            state: dict[str, Any] = {}
            for key, value in entries.items():
                if key.startswith(_GROUP):
                    self._load_group_value(group, key.removeprefix(_GROUP), value)
                elif key.startswith(_NUMBER):
                    state[key.removeprefix(_NUMBER)] = value.item()
                else:
                    stays = key == _STEP and self._keeps_step_on_cpu
                    state[key] = value.clone() if stays else value.to(group.parameter.device).clone()
                    if key == _STEP and self._step_shape is not None:
                        state[key] = state[key].reshape(self._step_shape)
            if state:
                self.optimizer.state[group.parameter] = state

    def _load_group_value(self, group: ParameterGroup, key: str, value: torch.Tensor) -> None:
        entry = self._entries[group.name]
        if isinstance(entry.get(key), torch.Tensor):
            entry[key].copy_(value)
        else:
            entry[key] = value.item()


def _as_tensor(value: Any) -> torch.Tensor:
    """A copy on the CPU; Python numbers keep their precision."""
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    return torch.as_tensor(value).detach().cpu().clone()
