"""The optimizer over flat parameters, gradient clipping, and the guard against steps with NaN gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Optimizer", "ParameterGroup"]


@dataclass
class ParameterGroup:
    """A parameter of the optimizer and how it is trained.

    Attributes:
        name: shown in logs and used in state files: ``unet``, ``clip_l``, ``zog_v1 clip_l``.
        parameter: fp32 with a preset gradient, any shape.
        lr: base learning rate, > 0.
        weight_decay: AdamW's weight decay, ≥ 0.
    """

    name: str
    parameter: torch.nn.Parameter
    lr: float
    weight_decay: float


class Optimizer:
    """AdamW over a few flat parameters; on a GPU without synchronization.

    A step with NaN or infinite gradients changes nothing. With fp16, such steps adjust a loss scale
    (``torch.cuda.amp.GradScaler``).

    Args:
        groups: the trained parameters.
        clip_norm: maximum gradient norm of each group; 0 turns clipping off.
        uses_fp16: whether to scale the loss.
        device: device of the parameters.

    Source: AdamW: Loshchilov & Hutter 2017, https://arxiv.org/abs/1711.05101
    """

    def __init__(
        self, groups: Sequence[ParameterGroup], *, clip_norm: float, uses_fp16: bool, device: torch.device
    ) -> None:
        self.groups = list(groups)
        self._gradients = [_gradient_of(group) for group in groups]
        self._clip_norm = clip_norm
        self._on_gpu = _is_gpu(device)
        self._zero = torch.zeros((), device=device)
        parameters = [
            {"params": [group.parameter], "lr": group.lr, "weight_decay": group.weight_decay} for group in self.groups
        ]
        # fused: one kernel per group, which itself skips steps with NaN gradients, without synchronization.
        self._adamw = torch.optim.AdamW(parameters, fused=True if self._on_gpu else None)
        self._scaler = _scaler(uses_fp16=uses_fp16) if self._on_gpu else None
        if self._scaler is not None:
            # It creates its scale tensor when scaling the first loss, but the first step may not have a loss to scale.
            self._scaler.scale(torch.zeros((), device=device))

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss (0-dim) to call ``backward`` on."""
        return self._scaler.scale(loss) if self._scaler is not None else loss

    def set_learning_rates(self, factors: Sequence[float]) -> None:
        """Set each group's learning rate to its base value times its factor (0 … 1).

        A group whose factor is 0 is frozen: its values and moments stay as they are.
        """
        for entry, group, gradient, factor in zip(
            self._adamw.param_groups, self.groups, self._gradients, factors, strict=True
        ):
            entry["lr"] = group.lr * factor
            # AdamW skips a parameter without a gradient.
            group.parameter.grad = gradient if factor > 0.0 else None

    @property
    def learning_rates(self) -> dict[str, float]:
        """Current learning rate, by group name."""
        return {group.name: entry["lr"] for entry, group in zip(self._adamw.param_groups, self.groups, strict=True)}

    @torch.no_grad()
    def step(self) -> dict[str, torch.Tensor]:
        """Clip, step and clear the gradients.

        Returns:
            Gradient norm of each group before clipping, 0-dim tensors on the device; 0 for a frozen group; NaN or
            infinite if the step was skipped.
        """
        norms = {group.name: self._zero for group in self.groups}
        trained = [group for group in self.groups if group.parameter.grad is not None]
        if not trained:
            return norms
        if self._scaler is not None:
            self._scaler.unscale_(self._adamw)
        for group in trained:
            gradient = _gradient_of(group)
            norm = torch.linalg.vector_norm(gradient)
            norms[group.name] = norm
            if self._clip_norm > 0:
                gradient.mul_((self._clip_norm / (norm + 1e-6)).clamp(max=1.0))
        if self._scaler is not None:
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
        """Restore the tensors of :meth:`state_tensors`; a group that was never stepped stays new."""
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


def _scaler(*, uses_fp16: bool) -> Any:
    """A loss scaler for fp16; otherwise it only passes the found-inf flag to the fused kernel."""
    options: dict[str, Any] = {} if uses_fp16 else {"init_scale": 1.0, "growth_interval": 2**31 - 1}
    # Since torch 2.4 the old name prints a warning; the new one exists since 2.3.
    scaler = getattr(torch.amp, "GradScaler", None)
    return torch.cuda.amp.GradScaler(**options) if scaler is None else scaler("cuda", **options)


def _gradient_of(group: ParameterGroup) -> torch.Tensor:
    gradient = group.parameter.grad
    assert gradient is not None
    return gradient
