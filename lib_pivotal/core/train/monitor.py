"""Watches the values of each step: reports them, warns, and ends a run that no longer learns anything."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

from lib_pivotal.core.errors import TrainingDiverged
from lib_pivotal.core.events import Event, StepDone, Warned
from lib_pivotal.core.textual_inversion.embedding_table import Layout

__all__ = ["Monitor"]

logger = logging.getLogger("pivotal.monitor")

_MAX_BAD = 3
"""Consecutive NaN losses, and without loss scaling NaN gradients, that end a run."""
_WARN_AFTER_SCALED, _MAX_BAD_SCALED = 20, 50
"""Consecutive NaN gradients with loss scaling, which halves the scale each time until it fits."""
_REMEDY = "Lower the learning rates, or use bf16 or fp32 precision."
_LOG_EVERY = 100
_UNTRAINED_AFTER = 20
"""Steps without any gradient after which a parameter group is reported."""


class Monitor:
    """Turns the values of each step into events.

    Args:
        group_names: names of the optimizer's parameter groups, in order.
        layout: rows of each embedding.
        needs_loss_scaling: whether some NaN gradients are normal.
        emit: receives the events.
    """

    def __init__(
        self, group_names: Sequence[str], layout: Layout, *, needs_loss_scaling: bool, emit: Callable[[Event], None]
    ) -> None:
        self._group_names = list(group_names)
        self._layout = layout
        self._needs_loss_scaling = needs_loss_scaling
        self._emit = emit
        self._started: dict[int, tuple[dict[str, float], float, Sequence[str]]] = {}
        self._row_count = sum(count for _, count in layout.values())
        self._step_count = 0
        self._skipped_count = 0
        self._bad_losses = 0
        self._bad_gradients = 0
        self._without_gradient: dict[str, int] = {}

    def started(self, step: int, learning_rates: dict[str, float], seconds: float, parts: Sequence[str] = ()) -> None:
        """Record what is known about a step before its values arrive from the device.

        Args:
            step: number of finished steps, including this one.
            learning_rates: group name → learning rate used.
            seconds: wall-clock time of the step in seconds.
            parts: parts of the model whose weight changes were measured after it.
        """
        self._started[step] = (learning_rates, seconds, parts)

    def finished(self, step: int, values: Sequence[float]) -> None:
        """Report a step whose values have arrived.

        Args:
            step: as in :meth:`started`.
            values: loss, gradient norm of each group, relative norm of each embedding vector, weight change of each
                measured part.

        Raises:
            TrainingDiverged: several losses or gradients in a row were NaN or infinite.
        """
        learning_rates, seconds, parts = self._started.pop(step)
        first_ratio = 1 + len(self._group_names)
        norms = dict(zip(self._group_names, values[1:first_ratio], strict=True))
        ratios = values[first_ratio:]
        lengths = {name: sum(ratios[at : at + count]) / count for name, (at, count) in self._layout.items()}
        changes = dict(zip(parts, ratios[self._row_count :], strict=True))
        if changes and step % _LOG_EVERY == 0:
            shown = ", ".join(f"{name} {value:.1%}" for name, value in changes.items())
            logger.info("Step %d: the LoRA changes weights by up to: %s", step, shown)
        self._emit(StepDone(step, values[0], learning_rates, norms, lengths, seconds, changes))
        self._step_count += 1
        trained = {name: norm for name, norm in norms.items() if learning_rates[name]}
        self._count_skipped(values[0], trained)
        self._watch_loss(step, values[0])
        self._watch_gradients(step, trained)
        self._watch_untrained(trained)

    def report_skipped(self) -> None:
        """Warn at the end of a run if some steps were skipped."""
        if self._skipped_count:
            counts = f"{self._skipped_count} of {self._step_count} steps were skipped"
            self._emit(Warned(f"{counts} because the loss or the gradients were NaN. {_REMEDY}"))

    def _count_skipped(self, loss: float, norms: Mapping[str, float]) -> None:
        # Loss scaling skips a few steps while it adapts and has its own warning.
        watched = (loss,) if self._needs_loss_scaling else (loss, *norms.values())
        self._skipped_count += not all(math.isfinite(value) for value in watched)

    def _watch_loss(self, step: int, loss: float) -> None:
        self._bad_losses = 0 if math.isfinite(loss) else self._bad_losses + 1
        if self._bad_losses >= _MAX_BAD:
            raise TrainingDiverged(step - _MAX_BAD + 1, hint=_REMEDY)

    def _watch_gradients(self, step: int, norms: Mapping[str, float]) -> None:
        """Watch for NaN gradients, which can occur while the loss is finite; such steps change nothing."""
        is_good = all(math.isfinite(norm) for norm in norms.values())
        self._bad_gradients = 0 if is_good else self._bad_gradients + 1
        limit = _MAX_BAD_SCALED if self._needs_loss_scaling else _MAX_BAD
        if self._bad_gradients >= limit:
            raise TrainingDiverged(step - limit + 1, hint=_REMEDY, what="Gradients have been")
        if self._bad_gradients == _WARN_AFTER_SCALED:
            since = step - _WARN_AFTER_SCALED + 1
            self._emit(Warned(f"Gradients have been NaN or infinite since step {since}; nothing is learned. {_REMEDY}"))

    def _watch_untrained(self, norms: Mapping[str, float]) -> None:
        """Report groups that never get a gradient; a group that has had one is no longer watched."""
        untrained = []
        for name, norm in norms.items():
            count = self._without_gradient.get(name, 0)
            self._without_gradient[name] = count + 1 if norm == 0.0 else _UNTRAINED_AFTER
            if norm == 0.0 and count + 1 == _UNTRAINED_AFTER:
                untrained.append(name)
        if untrained:
            self._emit(Warned(f"No gradient reaches {', '.join(untrained)}: nothing is learned there."))
