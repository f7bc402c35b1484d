"""Runs the UNet's forward and backward pass as a recorded graph, once one has been made for the kind of batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lib_pivotal.core.activations.lean import product_dtype
from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.optim.build import Optimizer
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.batch_loss import batch_loss
from lib_pivotal.core.train.batches import Batch
from lib_pivotal.core.train.cuda_graph import Recorder, are_close, tolerance_for
from lib_pivotal.core.train.out_of_memory import forget_variables, is_out_of_memory
from lib_pivotal.core.train.recordings import Recordings

__all__ = ["StepGraphs"]

logger = logging.getLogger("pivotal.train")

_FIELDS = ("latents", "noise", "timesteps", "masks", "weights")


class StepGraphs:
    """Forward and backward passes of the UNet, recorded per shape and phase of the training.

    The text encoders have graphs of their own, see ``recorded_encoder.py``, because the number of trained vectors
    differs between captions. A graph is used only if it has reproduced the gradients of a usual step; otherwise, or if
    recording fails, all further steps are usual ones.

    Args:
        model: the borrowed model.
        conditioner: encodes the captions.
        objective: computes the losses.
        optimizer: scales the loss.
        adapters: the trained adapters, whose gradients the graphs add to.
        recorder: records graphs.
    """

    def __init__(
        self,
        model: DiffusionModel,
        conditioner: TextConditioner,
        objective: Objective,
        optimizer: Optimizer,
        adapters: Sequence[AdapterSet],
        recorder: Recorder,
    ) -> None:
        self._model = model
        self._conditioner = conditioner
        self._objective = objective
        self._optimizer = optimizer
        self._adapters = list(adapters)
        self._flats = [flat for part in adapters for flat in part.flats]
        self._recorder = recorder
        self._graphs: Recordings[_Graph] = Recordings(model.unet, recorder)
        self._tolerance = tolerance_for(product_dtype(model.unet, model.autocast))
        self._phase: Any = None

    def backward(
        self, batch: Batch, batch_count: float, prior: Callable[[], torch.Tensor | None]
    ) -> torch.Tensor | None:
        """Add a batch's gradients.

        Args:
            batch: the batch.
            batch_count: see ``batch_loss``.
            prior: makes the prediction before the training where the batch needs it.

        Returns:
            The batch's loss, 0-dim; None if this batch cannot be part of a graph and nothing was done.
        """
        if not self._graphs.is_usable or not self._conditioner.is_uniform(batch.captions):
            return None
        with self._model.autocast():
            (group,) = self._conditioner.encode(batch.captions, batch.sizes)
            target = prior()
        outer, rebuild = _flattened(group.conditioning)
        inputs = _Inputs(batch, batch_count, target, [_leaf(tensor) for tensor in outer], rebuild)
        loss = self._run(inputs)
        trained = [pair for pair in zip(outer, inputs.conditions, strict=True) if pair[0].requires_grad]
        if trained:
            torch.autograd.backward([tensor for tensor, _ in trained], [leaf.grad for _, leaf in trained])
        return loss

    def clear(self) -> None:
        """Drop all graphs and their memory; the next batches are recorded again."""
        self._graphs.clear()

    def make_room(self) -> None:
        """Drop all graphs if little memory is left for other work, such as previews."""
        self._graphs.make_room()

    def _run(self, inputs: _Inputs) -> torch.Tensor:
        """Loss of a batch; gradients of its conditions are in the leaves' ``grad`` afterwards."""
        enabled = tuple(part.enabled for part in self._adapters)
        phase = (enabled, self._conditioner.is_trained)
        if phase != self._phase:
            # The graphs of an earlier phase of the training would keep their memory for nothing.
            self._phase = phase
            self._graphs.clear()
        kind = (inputs.kind(), enabled)
        graph = self._graphs.find(kind)
        if graph is not None:
            return graph.replay(inputs)
        if self._graphs.is_due(kind):
            return self._next_to_graphs(inputs, lambda: self._record(kind, inputs))
        return self._next_to_graphs(inputs, lambda: self._compute(inputs)) if self._graphs else self._compute(inputs)

    def _next_to_graphs(self, inputs: _Inputs, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Do a step while graphs keep memory; if too little is left, do it and all further ones as usual."""
        before = [flat.gradient.clone() for flat in self._flats]
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            forget_variables(error)
            logger.warning("There is too little memory for CUDA graphs, so the step runs as usual.")
        for flat, earlier in zip(self._flats, before, strict=True):
            flat.gradient.copy_(earlier)
        self._graphs.give_up()
        return self._compute(inputs)

    def _compute(self, inputs: _Inputs) -> torch.Tensor:
        for leaf in inputs.conditions:
            leaf.grad = None
        batch = inputs.batch
        noisy = self._objective.noisy(batch.latents, batch.noise, batch.timesteps)
        with self._model.autocast():
            prediction = self._model.predict(noisy, batch.timesteps, inputs.rebuild(inputs.conditions))
            loss = batch_loss(self._objective, prediction, batch, inputs.batch_count, inputs.target)
        if loss.requires_grad:
            self._optimizer.scaled(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _record(self, kind: Any, inputs: _Inputs) -> torch.Tensor:
        """Do a usual step, and record a graph that gives the same gradients."""
        static = inputs.copied()
        before = [flat.gradient.clone() for flat in self._flats]
        loss, expected = self._tried(static, lambda: self._recorder.warm_up(lambda: self._compute(static)))
        for leaf, gradient in zip(inputs.conditions, expected[len(before) :], strict=True):
            leaf.grad = gradient if leaf.requires_grad else None
        has_failed = False
        try:
            # Gradients that overflow say nothing; another batch of this kind will come.
            if all(bool(torch.isfinite(gradient).all()) for gradient in expected):
                graph = _Graph(static, *self._recorder.record(lambda: self._compute(static)))
                _, found = self._tried(static, graph.start)
                has_failed = not self._judge(kind, graph, expected, found)
        except Exception as error:
            logger.warning("The step cannot be recorded as a CUDA graph, so it runs as usual.", exc_info=True)
            forget_variables(error)
            has_failed = True
        if has_failed:
            self._graphs.give_up()
        for flat, earlier, own in zip(self._flats, before, expected, strict=False):
            flat.gradient.copy_(earlier).add_(own)
        return loss

    def _tried(self, static: _Inputs, work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The result of work that adds gradients, and copies of these gradients alone."""
        for flat in self._flats:
            flat.clear_gradient()
        loss = work().clone()
        own = [flat.gradient.clone() for flat in self._flats]
        return loss, own + [_gradient_of(leaf).clone() for leaf in static.conditions]

    def _judge(self, kind: Any, graph: _Graph, expected: list[torch.Tensor], found: list[torch.Tensor]) -> bool:
        """Use a graph from now on if its gradients are right; returns whether they are."""
        if not are_close(expected, found, self._tolerance):
            logger.warning("A CUDA graph of the step gives other gradients, so the step runs as usual.")
            return False
        self._graphs.keep(kind, graph)
        logger.info("The step was recorded as a CUDA graph (%d so far).", len(self._graphs))
        return True


@dataclass(frozen=True)
class _Inputs:
    """What a forward pass of the UNet gets; its condition as tensors that are leaves of autograd's graph."""

    batch: Batch
    batch_count: float
    target: torch.Tensor | None
    conditions: list[torch.Tensor]
    rebuild: Callable[[Sequence[torch.Tensor]], Any]

    def tensors(self) -> list[torch.Tensor | None]:
        """All of them, in a fixed order."""
        return [*(getattr(self.batch, name) for name in _FIELDS), self.target, *self.conditions]

    def kind(self) -> Any:
        """Equal for inputs that the same graph can take."""
        described = [
            None if tensor is None else (tuple(tensor.shape), tensor.dtype, tensor.requires_grad)
            for tensor in self.tensors()
        ]
        return (tuple(described), self.batch_count)

    def copied(self) -> _Inputs:
        """The same in memory of its own."""
        own: dict[str, Any] = {name: _copied(getattr(self.batch, name)) for name in _FIELDS}
        conditions = [_leaf(tensor.detach().clone(), like=tensor) for tensor in self.conditions]
        return replace(self, batch=replace(self.batch, **own), target=_copied(self.target), conditions=conditions)

    @torch.no_grad()
    def take(self, other: _Inputs) -> None:
        """Take over the values of other inputs of the same kind."""
        for own, value in zip(self.tensors(), other.tensors(), strict=True):
            if own is not None and value is not None:
                own.copy_(value)


@dataclass(frozen=True)
class _Graph:
    """A recorded forward and backward pass with the memory of its inputs and result."""

    static: _Inputs
    run: Callable[[], None]
    loss: torch.Tensor

    def start(self) -> torch.Tensor:
        self.run()
        return self.loss

    def replay(self, inputs: _Inputs) -> torch.Tensor:
        """Loss of a batch; the gradients of its conditions are valid until the next replay."""
        self.static.take(inputs)
        loss = self.start().clone()
        for leaf, own in zip(inputs.conditions, self.static.conditions, strict=True):
            leaf.grad = own.grad
        return loss


def _flattened(condition: Any) -> tuple[list[torch.Tensor], Callable[[Sequence[torch.Tensor]], Any]]:
    """The tensors of a condition, see ``ports.DiffusionModel``, and what makes such a condition of tensors."""
    if isinstance(condition, torch.Tensor):
        return [condition], lambda tensors: tensors[0]
    text, added = condition
    if isinstance(added, torch.Tensor):
        return [text, added], lambda tensors: (tensors[0], tensors[1])
    names = list(added)
    return [text, *added.values()], lambda tensors: (tensors[0], dict(zip(names, tensors[1:], strict=True)))


def _leaf(tensor: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
    needs = (tensor if like is None else like).requires_grad
    return tensor.detach().requires_grad_(needs)


def _copied(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.clone()


def _gradient_of(leaf: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
