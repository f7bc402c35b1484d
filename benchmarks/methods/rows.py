"""The rows of the table: what differs from the defaults of this benchmark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.baseline import baseline
from benchmarks.methods.measures import write_scenes
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.tools import split
from lib_pivotal.core.bundle.tools_add import pack
from lib_pivotal.core.config.presets import find_preset
from lib_pivotal.core.config.schema import Subset, TrainConfig
from lib_pivotal.core.config.subset import REGULARIZATION

__all__ = ["BATCH", "ROWS", "Row"]

BATCH = 4


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        group: rows that are compared with each other.
        changes: settings that differ.
        stop_at: end of the embeddings' training, as a fraction of the steps; None leaves the default.
        share_of_steps: how many of the steps it trains.
        has_names: False for a LoRA that is trained with rare words instead of embeddings.
        train: trains with settings in a folder and returns the bundle.
        is_extra: it is measured only when its group is asked for.
    """

    group: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    stop_at: float | None = None
    share_of_steps: float = 1.0
    has_names: bool = True
    train: Callable[[TrainConfig, Path], Path] | None = None
    is_extra: bool = False

    def run(self, checkpoint: Path, data: Path, out: Path, *, steps: int, seed: int) -> Path:
        """Train; returns the bundle."""
        plain = baseline(checkpoint, data, round(self.share_of_steps * steps), is_control=not self.has_names)
        config = replace(plain, batch_size=BATCH, seed=seed, output_name="bundle", **self.changes)
        if self.stop_at is not None:
            config = replace(config, concepts=tuple(replace(item, stop_at=self.stop_at) for item in config.concepts))
        return (self.train or _train)(config, out)


def _train(config: TrainConfig, out: Path) -> Path:
    outcome = train_run(config, (), out)
    if outcome.outcome != "done" or outcome.bundle_path is None:
        raise SystemExit("The training was stopped.")
    return outcome.bundle_path


def _train_apart(config: TrainConfig, out: Path) -> Path:
    """Embeddings of one run and the LoRA of another one, which has its own seed and its own embeddings."""
    alone = _train(replace(config, rank=0, conv_rank=0, text_encoder_rank=0), out / "embeddings")
    other = _train(replace(config, seed=config.seed + 100), out / "lora")
    folder = out / "parts"
    shutil.rmtree(folder, ignore_errors=True)
    lora = split(other, folder / "lora").paths[0]
    embeddings = {path.stem: path for path in split(alone, folder / "embeddings").paths}
    return pack(lora, embeddings, out / "bundle.safetensors", overwrite=True).paths[0]


def _train_regularized(config: TrainConfig, out: Path) -> Path:
    """A tenth of the samples are drawings without the characters, whose predictions are kept."""
    out.mkdir(parents=True, exist_ok=True)
    write_scenes(out / "scenes", 64, seed=1)
    subsets = (Subset(str(out / "scenes"), kind=REGULARIZATION),)
    return _train(replace(config, subsets=subsets, regularization_target="prior"), out)


def _preset(name: str) -> dict[str, Any]:
    """The settings of a preset that do not depend on the size of images or on the number of steps."""
    return {key: value for key, value in find_preset(name).settings.items() if key not in ("resolution", "steps")}


_OTHER_RATES = (1.5e-3, 1.5e-2)

ROWS: dict[str, Row] = {
    "baseline": Row("methods"),
    "rare word": Row("methods", has_names=False),
    "baseline, half of the steps": Row("methods", share_of_steps=0.5),
    "two phases": Row("methods", {"lora_start": 0.5}, stop_at=0.5),
    "embeddings only": Row("methods", {"rank": 0, "conv_rank": 0, "text_encoder_rank": 0}),
    "from different runs": Row("methods", train=_train_apart),
    "defaults' schedule": Row("methods", {"lora_start": 0.2}, stop_at=0.7),
    "preset for characters": Row("methods", _preset("character-sd1"), stop_at=0.7),
    "all from the start": Row("methods", {"lora_start": 0.0}, stop_at=1.0),
    "LoHa": Row("kinds", {"lora_kind": "loha"}),
    "attention": Row("layers", {"lora_layers": "attention"}),
    "cross_kv": Row("layers", {"lora_layers": "cross_kv", "conv_rank": 0}),
    "cross_kv, prior": Row(
        "layers", {"lora_layers": "cross_kv", "conv_rank": 0}, train=_train_regularized, is_extra=True
    ),
    "no convolutions": Row("layers", {"conv_rank": 0}),
    "LoKr": Row("kinds", {"lora_kind": "lokr"}),
    "DoRA": Row("kinds", {"lora_kind": "dora"}),
    "prior": Row("knobs", train=_train_regularized),
    "noise offset": Row("knobs", {"noise_offset": 0.05}),
    "without the noisiest tenth": Row("knobs", {"max_timestep": 0.9}),
    "without the finest tenth": Row("knobs", {"min_timestep": 0.1}, is_extra=True),
    "pseudo-Huber": Row("knobs", {"huber_c": 0.1}),
    "debiased": Row("knobs", {"loss_weighting": "debiased"}),
    "no min-SNR": Row("knobs", {"loss_weighting": "none"}),
    "stratified": Row("knobs", {"stratified_timesteps": True}),
    "weight change limited": Row("knobs", {"max_weight_change": 0.2}),
    "Lion": Row("optimizers", {"optimizer": "lion", "unet_lr": 4e-5, "text_encoder_lr": 1e-5}),
    "Prodigy+": Row("optimizers", {"optimizer": "prodigy-plus", "unet_lr": 1.0, "text_encoder_lr": 1.0}),
    "direction": Row("norms", {"embedding_norms": "direction"}),
    "free": Row("norms", {"embedding_norms": "free"}),
    **{
        f"{norms}, rate {rate:g}": Row("norms", {"embedding_norms": norms, "embedding_lr": rate}, is_extra=True)
        for norms, rate in product(("band", "direction", "free"), _OTHER_RATES)
    },
}
"""Title → row."""
