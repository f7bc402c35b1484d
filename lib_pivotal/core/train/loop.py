"""The training loop: the file to read first. Everything it calls is named with its place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from lib_pivotal.core.errors import TrainingDiverged
from lib_pivotal.core.events import Control, Event, StepDone, Warned
from lib_pivotal.core.lora.inject import attach
from lib_pivotal.core.ports import ProcessGroup
from lib_pivotal.core.train.batches import Batch
from lib_pivotal.core.train.output import Output
from lib_pivotal.core.train.readback import Readback
from lib_pivotal.core.train.setup import Setup

__all__ = ["Loop"]

_MOST_BAD = 3
"""Losses in a row that are no number; without a loss scale, gradients too."""
_SCALE_WARNED_AFTER, _MOST_BAD_SCALED = 20, 50
"""The same of gradients under a loss scale, which is halved at each of them until it fits."""
_REMEDY = "Lower the learning rates, or use bf16 or fp32 precision."
_DEAD_AFTER = 20
"""Steps that a group tried without any gradient, after which it is reported."""


class Loop:
    """Runs the steps of a prepared run.

    Args:
        setup: see ``setup.py``.
        output: see ``output.py``; None in all processes but the first.
        emit: takes events.
        control: requests from outside.
        group: the processes.
    """

    def __init__(
        self, setup: Setup, output: Output | None, emit: Callable[[Event], None], control: Control, group: ProcessGroup
    ) -> None:
        self._setup = setup
        self._output = output
        self._emit = emit
        self._control = control
        self._group = group
        self._readback = Readback()
        self._told: dict[int, tuple[dict[str, float], float]] = {}
        self._bad_losses = 0
        self._bad_gradients = 0
        self._watched = self._skipped = 0
        self._idle: dict[str, int] = {}
        self.step = 0

    def run(self, first_step: int) -> None:
        """Train from ``first_step`` finished steps to the end, or until asked to stop.

        Raises:
            TrainingDiverged: three losses in a row were not finite, or so many gradients that nothing is learnt.
            HostError: the model was exchanged or moved meanwhile.
        """
        setup, config = self._setup, self._setup.config
        self.step = first_step
        with attach(setup.loras), setup.model.checkpointing(enabled=setup.checkpoints):
            if first_step == 0 and config.sample_every and not self._control.stop_requested:
                self._samples()
            while self.step < setup.steps and not self._group.any(self._control.stop_requested):
                self.train_step(self.step)
                self.step += 1
                self._report(wait=False)
                self._between_steps()
            self._report(wait=True)
            self._tell_skipped()
            if config.sample_every and self.step % config.sample_every and not self._control.stop_requested:
                self._samples()

    def train_step(self, step: int) -> None:
        """One optimiser step: ``accumulation`` batches forward and backward, then the update."""
        setup = self._setup
        started = time.monotonic()
        setup.model.verify()
        self._set_rates(step)
        # batches.py, over data/plan.py, data/caption.py, diffusion/noise.py
        batches = setup.batcher.step(step)
        loss = torch.stack([self._backward(batch, len(batches)) for batch in batches]).sum()
        self._average(loss)
        # optim/build.py
        norms = setup.optimiser.step()
        if setup.config.norm_band and setup.tables:
            self._keep_norms()
        ratios = [table.relative_norms() for table in setup.tables[:1]]
        self._readback.push(step + 1, torch.cat([loss.view(1), torch.stack(list(norms.values())), *ratios]))
        self._told[step + 1] = (setup.optimiser.rates, time.monotonic() - started)

    def _backward(self, batch: Batch, batch_count: int) -> torch.Tensor:
        """Add a batch's gradients; returns its share of the step's mean loss, 0-dim on the device."""
        setup = self._setup
        # diffusion/objective.py
        noisy = setup.objective.noisy(batch.latents, batch.noise, batch.timesteps)
        losses = []
        with setup.model.autocast():
            # texts.py, over pivot/prompt.py and pivot/vectors.py
            groups = setup.texts.encode(batch.captions, batch.sizes)
            for text in groups:
                at = slice(None) if len(groups) == 1 else text.places
                prediction = setup.model.predict(noisy[at], batch.timesteps[at], text.condition)
                losses.append(
                    setup.objective.losses(prediction, batch.latents[at], batch.noise[at], batch.timesteps[at])
                )
        loss = torch.cat(losses).mean() / batch_count
        # Without a LoRA, a batch of captions without names has nothing to teach.
        if loss.requires_grad:
            setup.optimiser.scaled(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _set_rates(self, step: int) -> None:
        """Learning rates of this step; embeddings whose rate has reached 0 are frozen for good."""
        setup = self._setup
        factors = [factor(step) for factor in setup.factors]
        setup.optimiser.set_rates(factors)
        for lora, factor in zip(setup.loras, factors, strict=False):
            # Before its start a LoRA adds nothing, so it need not be computed.
            lora.enabled = factor > 0.0
        embedding_factors = factors[len(setup.loras) :]
        names = [concept.name for concept in setup.config.concepts]
        for number, table in enumerate(setup.tables):
            own = embedding_factors[number * len(names) : (number + 1) * len(names)]
            for name, factor in zip(names, own, strict=True):
                if factor == 0.0:
                    table.freeze(name)
            # With every vector frozen the backward pass ends at the text encoder's output.
            table.table.requires_grad_(any(factor > 0.0 for factor in own))

    def _average(self, loss: torch.Tensor) -> None:
        """Mean gradients and loss over all processes; nothing to do for one."""
        if self._group.size == 1:
            return
        for lora in self._setup.loras:
            if lora.enabled:
                self._group.mean_(lora.group.gradient)
        for table in self._setup.tables:
            assert table.table.grad is not None
            self._group.mean_(table.table.grad)
        self._group.mean_(loss)

    def _keep_norms(self) -> None:
        rates = list(self._setup.optimiser.rates.values())[len(self._setup.loras) :]
        pull = min(0.05, 10.0 * max(rates))
        for table in self._setup.tables:
            table.keep_norms(pull)

    def _report(self, *, wait: bool) -> None:
        """Tell the steps whose numbers have arrived, and watch them."""
        setup = self._setup
        names = [group.name for group in setup.optimiser.groups]
        for step, values in self._readback.arrived(wait=wait):
            rates, seconds = self._told.pop(step)
            norms = dict(zip(names, values[1 : 1 + len(names)], strict=True))
            ratios = values[1 + len(names) :]
            layout = setup.tables[0].layout if setup.tables else {}
            lengths = {name: sum(ratios[at : at + count]) / count for name, (at, count) in layout.items()}
            self._emit(StepDone(step, values[0], rates, norms, lengths, seconds))
            self._watch(step, values[0], {name: norm for name, norm in norms.items() if rates[name]})

    def _watch(self, step: int, loss: float, norms: dict[str, float]) -> None:
        """End a run whose loss is no number any more; say when a group gets no gradient at all."""
        self._watched += 1
        # A loss scale skips a few steps while it adapts, and then has a warning of its own.
        watched = (loss,) if self._setup.model.needs_loss_scaling else (loss, *norms.values())
        self._skipped += not all(math.isfinite(value) for value in watched)
        self._bad_losses = 0 if math.isfinite(loss) else self._bad_losses + 1
        if self._bad_losses >= _MOST_BAD:
            raise TrainingDiverged(step - _MOST_BAD + 1, hint=_REMEDY)
        self._watch_gradients(step, norms)
        dead = []
        for name, norm in norms.items():
            # Once it has had a gradient, a group is watched no more.
            self._idle[name] = self._idle.get(name, 0) + 1 if norm == 0.0 else _DEAD_AFTER
            dead += [name] if norm == 0.0 and self._idle[name] == _DEAD_AFTER else []
        if dead:
            self._emit(Warned(f"Nothing has been learnt by {', '.join(dead)}: it gets no gradient."))

    def _watch_gradients(self, step: int, norms: dict[str, float]) -> None:
        """End a run whose loss is a number but whose gradients are not: each such step changes nothing."""
        is_good = all(math.isfinite(norm) for norm in norms.values())
        self._bad_gradients = 0 if is_good else self._bad_gradients + 1
        most = _MOST_BAD_SCALED if self._setup.model.needs_loss_scaling else _MOST_BAD
        if self._bad_gradients >= most:
            raise TrainingDiverged(step - most + 1, hint=_REMEDY, what="Some gradient has")
        if self._bad_gradients == _SCALE_WARNED_AFTER:
            since = step - _SCALE_WARNED_AFTER + 1
            self._emit(Warned(f"Nothing has been learnt since step {since}: a gradient is no number. {_REMEDY}"))

    def _tell_skipped(self) -> None:
        """Say at the end how many steps changed nothing."""
        if self._skipped:
            text = f"{self._skipped} of {self._watched} steps were skipped because the loss or the gradients were NaN."
            self._emit(Warned(f"{text} {_REMEDY}"))

    def _between_steps(self) -> None:
        """Samples and saves that are due or were asked for."""
        config, output = self._setup.config, self._output
        if output is None:
            return
        due = config.sample_every and self.step % config.sample_every == 0
        if self._control.take_sample() or due:
            self._samples()
        due = config.save_every and self.step % config.save_every == 0 and self.step < self._setup.steps
        if self._control.take_save() or due:
            output.try_to_save(self.step, final=False)

    def _samples(self) -> None:
        if self._output is not None:
            self._output.make_samples(self.step)
