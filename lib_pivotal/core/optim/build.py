"""The optimizer over flat parameters, gradient clipping, and the guard against steps with NaN gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch

from lib_pivotal.core.optim.engine import Engine, ParameterGroup
from lib_pivotal.core.optim.library import Library
from lib_pivotal.core.torch_version import torch_version

__all__ = ["Optimizer", "ParameterGroup"]

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimizer:
    """AdamW over a few flat parameters; on a GPU without synchronization. A library may train the LoRA instead.

    A step with NaN or infinite gradients changes nothing. With fp16, such steps adjust a loss scale
    (``torch.cuda.amp.GradScaler``).

    Args:
        groups: the trained parameters.
        clip_norm: maximum gradient norm of each group; 0 turns clipping off.
        uses_fp16: whether to scale the loss.
        device: device of the parameters.
        library: trains the groups of the LoRA; None trains them with AdamW, too. On a GPU it synchronizes every step.

    Source: AdamW: Loshchilov & Hutter 2017, https://arxiv.org/abs/1711.05101
    """

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        *,
        clip_norm: float,
        uses_fp16: bool,
        device: torch.device,
        library: Library | None = None,
    ) -> None:
        self.groups = list(groups)
        self._gradients = [_gradient_of(group) for group in groups]
        self._clip_norm = clip_norm
        self._on_gpu = _is_gpu(device)
        self._zero = torch.zeros((), device=device)
        self._adamw = [group for group in self.groups if library is None or not group.is_lora]
        hosted = [group for group in self.groups if library is not None and group.is_lora]
        self._engines: list[Engine] = []
        if self._adamw:
            adamw = _adamw(_entries(self._adamw), device)
            shape = _step_shape(on_gpu=self._on_gpu)
            self._engines.append(Engine(adamw, self._adamw, keeps_step_on_cpu=not self._on_gpu, step_shape=shape))
        self.name = "torch.optim.adamw.AdamW"
        """What trains the LoRA, as in kohya's metadata."""
        if library is not None and hosted:
            self.name = library.path
            optimizer = library.build(_entries(hosted))
            self._engines.append(Engine(optimizer, hosted, is_schedule_free=library.is_schedule_free))
        self._owners = {group.name: engine for engine in self._engines for group in engine.groups}
        self._skips_by_itself = self._on_gpu and not hosted
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
        for group, gradient, factor in zip(self.groups, self._gradients, factors, strict=True):
            self._owners[group.name].set_lr(group.name, group.lr * factor)
            # All optimizers skip a parameter without a gradient.
            group.parameter.grad = gradient if factor > 0.0 else None

    @property
    def learning_rates(self) -> dict[str, float]:
        """Current learning rate, by group name."""
        return {group.name: self._owners[group.name].lr(group.name) for group in self.groups}

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context the parameters have the values to be saved and shown; afterwards exactly those of before.

        They differ from those in training only with a schedule-free library.
        """
        with contextlib.ExitStack() as stack:
            for engine in self._engines:
                stack.enter_context(engine.averaged())
            yield

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
        engines = [engine for engine in self._engines if engine.is_training]
        if self._scaler is not None:
            for engine in engines:
                self._scaler.unscale_(engine.optimizer)
        for group in trained:
            gradient = _gradient_of(group)
            norm = torch.linalg.vector_norm(gradient)
            norms[group.name] = norm
            if self._clip_norm > 0:
                gradient.mul_((self._clip_norm / (norm + 1e-6)).clamp(max=1.0))
        self._update(engines, norms)
        for gradient in self._gradients:
            gradient.zero_()
        return norms

    def _update(self, engines: Sequence[Engine], norms: dict[str, torch.Tensor]) -> None:
        """Step all engines, or none of them if any gradient is NaN or infinite."""
        if self._scaler is not None and self._skips_by_itself:
            (engine,) = engines
            self._scaler.step(engine.optimizer)
        elif bool(torch.isfinite(torch.stack(list(norms.values()))).all()):
            for engine in engines:
                engine.optimizer.step()
        if self._scaler is not None:
            self._scaler.update()

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Moments and step counts by ``group name/key``, on the CPU, plus the loss scale."""
        result = {key: value for engine in self._engines for key, value in engine.state_tensors().items()}
        if self._scaler is not None:
            state = self._scaler.state_dict()
            result["scaler"] = torch.tensor([state["scale"], float(state["_growth_tracker"])], dtype=torch.float64)
        return result

    def load_state_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restore the tensors of :meth:`state_tensors`; a group that was never stepped stays new."""
        for engine in self._engines:
            engine.load_state_tensors(tensors)
        if self._scaler is not None and "scaler" in tensors:
            state = self._scaler.state_dict()
            scale, tracker = tensors["scaler"].tolist()
            self._scaler.load_state_dict({**state, "scale": scale, "_growth_tracker": int(tracker)})

    def expected_shapes(self, names: Collection[str]) -> dict[str, torch.Size]:
        """Shapes that tensors of a state must have to be loaded; a library's own tensors are not known beforehand.

        Args:
            names: of all its tensors; a group that has not been trained yet has none.
        """
        shapes = {"scaler": torch.Size([2])} if "scaler" in names else {}
        for group in self._adamw:
            if any(name.startswith(f"{group.name}/") for name in names):
                shapes.update({f"{group.name}/{key}": group.parameter.shape for key in _MOMENTS})
                shapes[f"{group.name}/step"] = torch.Size()
        return shapes


def _entries(groups: Sequence[ParameterGroup]) -> list[dict[str, Any]]:
    return [{"params": [group.parameter], "lr": group.lr, "weight_decay": group.weight_decay} for group in groups]


def _adamw(entries: list[dict[str, Any]], device: torch.device) -> torch.optim.AdamW:
    """One kernel per group where torch has it; on a GPU, it skips steps with NaN gradients without synchronization."""
    is_fused = _is_gpu(device) or (device.type == "cpu" and torch_version() >= (2, 4))
    return torch.optim.AdamW(entries, fused=True if is_fused else None)


def _step_shape(*, on_gpu: bool) -> tuple[int, ...]:
    """Shape of AdamW's step counts; those of the fused kernel in torch 2.0 are not 0-dim."""
    return (1,) if on_gpu and torch_version() == (2, 0) else ()


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
