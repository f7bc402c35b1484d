"""The optimiser over flat groups, clipping, and the guard that keeps a bad step from doing harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Optimiser", "TrainedGroup"]


@dataclass
class TrainedGroup:
    """One parameter of the optimiser.

    Attributes:
        name: shown in logs and used in state files: ``unet``, ``clip_l``, ``embedding zog clip_l``.
        parameter: fp32 with a preset gradient, any shape.
        rate: base learning rate, > 0.
        weight_decay: AdamW's, ≥ 0.
    """

    name: str
    parameter: torch.nn.Parameter
    rate: float
    weight_decay: float


class Optimiser:
    """AdamW over a few flat parameters; on a GPU without waiting for it.

    A step whose gradients are not finite changes nothing. With fp16 a loss scale grows and shrinks with
    such steps (``torch.cuda.amp.GradScaler``).

    Args:
        groups: what is trained.
        clip_norm: largest gradient norm of each group; 0 turns clipping off.
        uses_fp16: scale the loss.
        device: where the parameters live.

    Source: AdamW: Loshchilov & Hutter 2017, https://arxiv.org/abs/1711.05101
    """

    def __init__(
        self, groups: Sequence[TrainedGroup], *, clip_norm: float, uses_fp16: bool, device: torch.device
    ) -> None:
        self.groups = list(groups)
        self._gradients = [_gradient_of(group) for group in groups]
        self._clip_norm = clip_norm
        self._on_gpu = _is_gpu(device)
        self._zero = torch.zeros((), device=device)
        parameters = [
            {"params": [group.parameter], "lr": group.rate, "weight_decay": group.weight_decay} for group in self.groups
        ]
        # fused: one kernel a group, and it skips non-finite steps by itself, without a synchronisation.
        self._adamw = torch.optim.AdamW(parameters, fused=True if self._on_gpu else None)
        self._scaler = _scaler(uses_fp16=uses_fp16) if self._on_gpu else None
        if self._scaler is not None:
            # It makes its scale at the first loss that it sees, and the first step may have none to show it.
            self._scaler.scale(torch.zeros((), device=device))

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss (0-dim) to call ``backward`` on."""
        return self._scaler.scale(loss) if self._scaler is not None else loss

    def set_rates(self, factors: Sequence[float]) -> None:
        """Set each group's learning rate to its base rate times its factor (0 … 1).

        A group whose factor is 0 rests: its values and moments stay as they are.
        """
        for entry, group, gradient, factor in zip(
            self._adamw.param_groups, self.groups, self._gradients, factors, strict=True
        ):
            entry["lr"] = group.rate * factor
            # AdamW passes over a parameter without a gradient.
            group.parameter.grad = gradient if factor > 0.0 else None

    @property
    def rates(self) -> dict[str, float]:
        """Learning rate in force, by group name."""
        return {group.name: entry["lr"] for entry, group in zip(self._adamw.param_groups, self.groups, strict=True)}

    @torch.no_grad()
    def step(self) -> dict[str, torch.Tensor]:
        """Clip, step and clear the gradients.

        Returns:
            Gradient norm of each group before clipping, 0-dim tensors on the device; 0 for a group that rests, not
            finite when the step was skipped.
        """
        awake = [group for group in self.groups if group.parameter.grad is not None]
        if self._scaler is not None and awake:
            self._scaler.unscale_(self._adamw)
        norms = {group.name: self._zero for group in self.groups}
        for group in awake:
            gradient = _gradient_of(group)
            norm = torch.linalg.vector_norm(gradient)
            norms[group.name] = norm
            if self._clip_norm > 0:
                gradient.mul_((self._clip_norm / (norm + 1e-6)).clamp(max=1.0))
        if self._scaler is not None and awake:
            self._scaler.step(self._adamw)
            self._scaler.update()
        elif bool(torch.isfinite(torch.stack(list(norms.values()))).all()):
            self._adamw.step()
        for gradient in self._gradients:
            gradient.zero_()
        return norms

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Moments and step counts by ``group name/key``, on the CPU, plus the loss scale."""
        result = {}
        for group in self.groups:
            for key, value in self._adamw.state.get(group.parameter, {}).items():
                result[f"{group.name}/{key}"] = torch.as_tensor(value).detach().cpu().clone()
        if self._scaler is not None:
            state = self._scaler.state_dict()
            result["scaler"] = torch.tensor([state["scale"], float(state["_growth_tracker"])], dtype=torch.float64)
        return result

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take back what :meth:`state_tensors` gave; a group that never stepped stays fresh."""
        for group in self.groups:
            prefix = f"{group.name}/"
            entries = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            if entries:
                parameter = group.parameter
                # AdamW keeps its step count on the CPU unless it is fused.
                self._adamw.state[parameter] = {
                    key: value.clone() if key == "step" and not self._on_gpu else value.to(parameter.device).clone()
                    for key, value in entries.items()
                }
        if self._scaler is not None and "scaler" in tensors:
            state = self._scaler.state_dict()
            scale, tracker = tensors["scaler"].tolist()
            self._scaler.load_state_dict({**state, "scale": scale, "_growth_tracker": int(tracker)})


def _is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"


def _scaler(*, uses_fp16: bool) -> torch.cuda.amp.GradScaler:
    """A loss scale for fp16; without growth it only carries the found-inf flag to the fused kernel."""
    scale: dict[str, Any] = {} if uses_fp16 else {"init_scale": 1.0, "growth_interval": 2**31 - 1}
    return torch.cuda.amp.GradScaler(**scale)


def _gradient_of(group: TrainedGroup) -> torch.Tensor:
    gradient = group.parameter.grad
    assert gradient is not None
    return gradient
