"""Learning rate schedules as plain functions of the step."""

from __future__ import annotations

import math

__all__ = ["embedding_factor", "lora_factor"]


def lora_factor(step: int, total: int, *, schedule: str, warmup: float, start: float = 0.0) -> float:
    """Multiplier of a LoRA learning rate.

    Args:
        step: steps already done, 0 … total - 1.
        total: steps of the run.
        schedule: ``"cosine"`` (to 0) or ``"constant"``.
        warmup: fraction of the run over which it rises from 0.
        start: fraction of the run before which it is exactly 0, so that only the embeddings are trained.

    Returns:
        0 … 1.
    """
    first = int(start * total)
    own = step - first
    if own < 0:
        return 0.0
    rise = min(1.0, (own + 1) / (warmup * total)) if warmup * total >= 1 else 1.0
    return rise * (_cosine(own / (total - first)) if schedule == "cosine" else 1.0)


def embedding_factor(step: int, total: int, *, schedule: str, stop_at: float) -> float:
    """Multiplier of an embedding's learning rate: no warm-up, and exactly 0 from ``stop_at`` on.

    The embedding trains at full rate before the LoRA has warmed up; with cosine, the rate falls to 0 at ``stop_at``.

    Args:
        step: steps already done, 0 … total - 1.
        total: steps of the run.
        schedule: see :func:`lora_factor`.
        stop_at: fraction of the run, 0 < … ≤ 1.

    Returns:
        0 … 1.
    """
    done = step / (stop_at * total)
    if done >= 1.0:
        return 0.0
    return _cosine(done) if schedule == "cosine" else 1.0


def _cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))
