"""The training loop; read this file first. Comments name the files of what it calls."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from lib_pivotal.core.events import Control, Event, Validated
from lib_pivotal.core.lora.adapter_set import fixed
from lib_pivotal.core.process_group import ProcessGroup
from lib_pivotal.core.train.batch_loss import batch_loss
from lib_pivotal.core.train.batches import Batch
from lib_pivotal.core.train.kept_steps import kept_steps
from lib_pivotal.core.train.monitor import Monitor
from lib_pivotal.core.train.output import Output
from lib_pivotal.core.train.readback import Readback
from lib_pivotal.core.train.setup import Setup

__all__ = ["Loop"]

_CHANGES_EVERY = 10
"""How far the LoRA changes the weights is measured every N steps, and after the first one."""


class Loop:
    """Runs the steps of a prepared run.

    Args:
        setup: the prepared run, see ``setup.py``.
        output: writes the results, see ``output.py``; None in all processes but the first.
        emit: receives the events.
        control: requests of the user.
        processes: the processes that train together.
    """

    def __init__(
        self,
        setup: Setup,
        output: Output | None,
        emit: Callable[[Event], None],
        control: Control,
        processes: ProcessGroup,
    ) -> None:
        self._setup = setup
        self._output = output
        self._emit = emit
        self._control = control
        self._processes = processes
        # readback.py
        self._readback = Readback()
        # monitor.py
        self.monitor = Monitor(
            [group.name for group in setup.optimizer.groups],
            setup.layout,
            needs_loss_scaling=setup.model.needs_loss_scaling,
            emit=emit,
        )
        self._kept_steps = frozenset(kept_steps(setup.config, setup.steps))
        self.step = 0
        self._validated_at = -1

    def run(self, first_step: int) -> None:
        """Train from step ``first_step`` until the end or until a stop is requested.

        Raises:
            TrainingDiverged: several losses or gradients in a row were NaN or infinite.
            HostError: the model was replaced or moved during training.
        """
        setup, config = self._setup, self._setup.config
        self.step = first_step
        # A resumed run has measured there before, if it was due.
        self._validated_at = first_step or -1
        # lora/adapter_set.py and activations/lean.py
        with setup.attached():
            if first_step == 0 and not self._control.stop_requested:
                self._validate()
                if config.sample_every:
                    self._make_samples()
            while self.step < setup.steps and not self._processes.any(self._control.stop_requested):
                self.train_step(self.step)
                self.step += 1
                self._report(wait=False)
                self._between_steps()
            self._report(wait=True)
            self.monitor.report_skipped()
            if not self._control.stop_requested:
                self._validate()
            if config.sample_every and self.step % config.sample_every and not self._control.stop_requested:
                self._make_samples()

    def train_step(self, step: int) -> None:
        """Run one optimizer step: forward and backward for ``accumulation`` batches, then the update."""
        setup = self._setup
        started = time.monotonic()
        setup.model.verify()
        setup.model.poll_requests()
        self._set_learning_rates(step)
        # batches.py, which uses step_items.py, data/plan.py, data/caption.py and diffusion/noise.py
        batches = setup.batcher.step(step)
        if setup.keeper is not None:
            # kept_names.py
            batches += setup.keeper.batches(step, batches)
        count = setup.batcher.items_per_step
        with fixed(setup.adapters):
            loss = torch.stack([self._backward(batch, count / len(batch.captions)) for batch in batches]).sum()
        self._average_over_processes(loss)
        # optim/build.py
        norms = setup.optimizer.step()
        if setup.config.embedding_norms != "free":
            for table in setup.tables.values():
                table.limit_norms()
        if setup.config.max_weight_change:
            for part in setup.weight_changes:
                part.limit(setup.config.max_weight_change)
        ratios = [self._relative_norms()] if setup.tables else []
        # weight_change.py
        measured = setup.weight_changes if step == 0 or (step + 1) % _CHANGES_EVERY == 0 else []
        changes = [part.largest().view(1) for part in measured]
        self._readback.push(step + 1, torch.cat([loss.view(1), torch.stack(list(norms.values())), *ratios, *changes]))
        names = [part.name for part in measured]
        self.monitor.started(step + 1, setup.optimizer.learning_rates, time.monotonic() - started, names)

    def _backward(self, batch: Batch, batch_count: float) -> torch.Tensor:
        """Add a batch's gradients; return its share of the step's mean loss, 0-dim on the device.

        Args:
            batch: the batch.
            batch_count: how many batches of its size make up a step.
        """
        setup = self._setup
        if setup.graphs is not None:
            # step_graphs.py, which does the same on a GPU without Python
            loss = setup.graphs.backward(batch, batch_count, lambda: self._target(batch))
            if loss is not None:
                return loss
        # diffusion/objective.py
        noisy = setup.objective.noisy(batch.latents, batch.noise, batch.timesteps)
        with setup.model.autocast():
            # prediction.py, which uses textual_inversion/; the adapters of lora/ act through their hooks
            prediction = setup.predict(noisy, batch)
            target, unchanged = self._target(batch), self._unchanged(noisy, batch)
            weight = setup.config.mask_prior
            loss = batch_loss(setup.objective, prediction, batch, batch_count, target, unchanged, weight)
        # Without a LoRA, captions without names give no gradient.
        if loss.requires_grad:
            setup.optimizer.scaled(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _target(self, batch: Batch) -> torch.Tensor | None:
        """What the model should predict for a batch; None for the noise or the velocity."""
        if not batch.has_prior and not batch.is_kept:
            return None
        setup = self._setup
        return setup.target(setup.objective.noisy(batch.latents, batch.noise, batch.timesteps), batch)

    def _unchanged(self, noisy: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        """What the model should predict for a noisy batch outside the masks; None if nothing is kept there."""
        setup = self._setup
        if not setup.config.mask_prior or batch.masks is None or batch.has_prior:
            return None
        # Before its start the LoRA changes nothing.
        return setup.without_lora(noisy, batch) if any(part.enabled for part in setup.adapters) else None

    def _set_learning_rates(self, step: int) -> None:
        """Set the learning rates of this step; freeze embeddings whose learning rate has reached 0."""
        setup = self._setup
        # optim/lr_schedule.py
        factors = [factor(step) for factor in setup.lr_factors]
        setup.optimizer.set_learning_rates(factors)
        for part, factor in zip(setup.adapters, factors, strict=False):
            # Before its start a LoRA adds nothing, so it is not computed.
            part.enabled = factor > 0.0
        embedding_factors = iter(factors[len(setup.adapters) :])
        for table in setup.tables.values():
            own = {name: next(embedding_factors) for name in setup.layout if name not in setup.kept}
            for name, factor in own.items():
                if factor == 0.0:
                    table.freeze(name)
            # With every vector frozen the backward pass ends at the text encoder's output.
            table.weight.requires_grad_(any(factor > 0.0 for factor in own.values()))

    def _average_over_processes(self, loss: torch.Tensor) -> None:
        """Average gradients and loss over all processes; does nothing for a single one."""
        if self._processes.size == 1:
            return
        for part in self._setup.adapters:
            for flat in part.flats if part.enabled else ():
                self._processes.mean_(flat.gradient)
        for table in self._setup.tables.values():
            assert table.weight.grad is not None
            self._processes.mean_(table.weight.grad)
        self._processes.mean_(loss)

    def _relative_norms(self) -> torch.Tensor:
        """Norms of the first encoder's vectors relative to their initial norms, shape ``(rows,)``."""
        return self._setup.tables[self._setup.model.text_encoders[0].name].relative_norms()

    def _report(self, *, wait: bool) -> None:
        """Report the steps whose values have arrived on the CPU."""
        for step, values in self._readback.arrived(wait=wait):
            self.monitor.finished(step, values)

    def _between_steps(self) -> None:
        """Make measurements, samples and saves that are due or were requested."""
        config, output = self._setup.config, self._output
        if output is None:
            return
        if config.validate_every and self.step % config.validate_every == 0:
            self._validate()
        is_due = config.sample_every and self.step % config.sample_every == 0
        if self._control.take_sample() or is_due:
            self._make_samples()
        is_due = config.save_every and self.step % config.save_every == 0 and self.step < self._setup.steps
        if self._control.take_save() or is_due:
            output.try_to_save(self.step, final=False)
        if self.step in self._kept_steps:
            output.keep_step(self.step)

    def _validate(self) -> None:
        """Measure the validation images, unless that has been done after this step."""
        if self._setup.validation is None or self._validated_at == self.step:
            return
        # validation.py
        with self._setup.optimizer.averaged():
            measured = self._setup.validation.measure()
        self._report(wait=True)
        self._validated_at = self.step
        self._emit(Validated(self.step, **measured))

    def _make_samples(self) -> None:
        if self._output is None:
            return
        if self._setup.graphs is not None:
            self._setup.graphs.make_room()
        self._output.make_samples(self.step)
