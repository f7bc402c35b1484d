"""The rows of the table: what differs from the defaults of this benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from lib_pivotal.cli.train import train_run
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.demo.__main__ import demo_config

__all__ = ["BATCH", "ROWS", "Row"]

BATCH = 4


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        group: rows that are compared with each other.
        changes: settings that differ.
        has_names: False for a LoRA that is trained with rare words instead of embeddings.
        train: trains with settings in a folder and returns the bundle.
    """

    group: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    has_names: bool = True
    train: Callable[[TrainConfig, Path], Path] | None = None

    def run(self, checkpoint: Path, data: Path, out: Path, *, steps: int, seed: int) -> Path:
        """Train; returns the bundle."""
        plain = demo_config(checkpoint, data, steps, is_control=not self.has_names)
        config = replace(plain, batch_size=BATCH, seed=seed, output_name="bundle", **self.changes)
        return (self.train or _train)(config, out)


def _train(config: TrainConfig, out: Path) -> Path:
    outcome = train_run(config, (), out)
    if outcome.outcome != "done" or outcome.bundle_path is None:
        raise SystemExit("The training was stopped.")
    return outcome.bundle_path


_RATES = (5e-3, 2e-2, 5e-2)

ROWS: dict[str, Row] = {
    "ours": Row("methods"),
    "rare word": Row("methods", has_names=False),
    "embeddings only": Row("methods", {"rank": 0, "conv_rank": 0, "text_encoder_rank": 0}),
    "LoHa": Row("kinds", {"lora_kind": "loha"}),
    "attention": Row("layers", {"lora_layers": "attention"}),
    "cross_kv": Row("layers", {"lora_layers": "cross_kv", "conv_rank": 0}),
    "LoKr": Row("kinds", {"lora_kind": "lokr"}),
    "DoRA": Row("kinds", {"lora_kind": "dora"}),
    **{
        f"{norms}, rate {rate:g}": Row("norms", {"embedding_norms": norms, "embedding_lr": rate})
        for norms, rate in product(("band", "direction", "free"), _RATES)
    },
}
"""Title → row."""
