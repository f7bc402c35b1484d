"""The parameter groups of the optimizer: what is trained together, and at which learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lib_pivotal.core.config.negative import trained_embeddings
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.adapter_set import NEGATIVE, AdapterSet
from lib_pivotal.core.optim.build import ParameterGroup
from lib_pivotal.core.optim.library import Library
from lib_pivotal.core.optim.lr_schedule import embedding_factor, lora_factor
from lib_pivotal.core.optim.width_rule import embedding_lr_factor, lora_lr_factor
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingTable

__all__ = ["parameter_groups"]

Factor = Callable[[int], float]
"""Multiplier of a learning rate as a function of the step."""


def parameter_groups(
    config: TrainConfig,
    model: DiffusionModel,
    adapters: Sequence[AdapterSet],
    tables: Mapping[str, EmbeddingTable],
    steps: int,
    library: Library | None,
) -> tuple[list[ParameterGroup], list[Factor]]:
    """Parameter groups and, in the same order, the multipliers of their learning rates.

    First comes one group for each of the adapters, then one for each embedding of each table, and then what else the
    adapters train without weight decay.

    Args:
        config: the settings.
        model: the borrowed model.
        adapters: the trained adapters.
        tables: encoder name → embedding table.
        steps: of the whole run.
        library: trains the LoRA instead of AdamW.
    """
    lrs = [_lora_lr(part, config, model, library) for part in adapters]
    factor = _lora_factor(config, steps, library, waits=bool(tables) and not config.start_from)
    pairs: list[tuple[ParameterGroup, Factor]] = [
        (ParameterGroup(part.part, part.flat.values, lr, config.weight_decay, is_lora=True), factor)
        for part, lr in zip(adapters, lrs, strict=True)
    ]
    for encoder, table in tables.items():
        pairs += _embedding_groups(config, encoder, table, steps, model.family)
    pairs += [
        (ParameterGroup(flat.name, flat.values, lr, 0.0, is_lora=True), factor)
        for part, lr in zip(adapters, lrs, strict=True)
        for flat in part.flats[1:]
    ]
    return [group for group, _ in pairs], [own for _, own in pairs]


def _lora_lr(part: AdapterSet, config: TrainConfig, model: DiffusionModel, library: Library | None) -> float:
    trained = "unet" if part.part == NEGATIVE else part.part
    lr = config.unet_lr if trained == "unet" else config.text_encoder_lr
    if library is not None and library.finds_lr:
        # It does so for any width.
        return lr
    return lr * lora_lr_factor(trained, model.lora_targets(), FAMILIES[model.family])


def _lora_factor(config: TrainConfig, steps: int, library: Library | None, *, waits: bool) -> Factor:
    """The schedule of the LoRA.

    Args:
        config: the settings.
        steps: of the whole run.
        library: see :func:`parameter_groups`.
        waits: whether it starts after the embeddings. A LoRA that is trained already belongs to them, so it is there
            from the beginning.
    """
    start, schedule, warmup = config.lora_start if waits else 0.0, config.schedule, config.warmup
    if library is not None and library.is_schedule_free:
        schedule, warmup = "constant", 0.0
    return lambda step: lora_factor(step, steps, start=start, schedule=schedule, warmup=warmup)


def _embedding_groups(
    config: TrainConfig, encoder: str, table: EmbeddingTable, steps: int, family: str
) -> list[tuple[ParameterGroup, Factor]]:
    base = config.embedding_lr * embedding_lr_factor(encoder, table.weight.shape[1], FAMILIES[family])

    def factor_until(stop_at: float) -> Factor:
        return lambda step: embedding_factor(step, steps, schedule=config.schedule, stop_at=stop_at)

    return [
        (
            ParameterGroup(
                f"{concept.name} {encoder}", table.parameters[concept.name], base * concept.lr_multiplier, 0.0
            ),
            factor_until(concept.stop_at),
        )
        for concept in trained_embeddings(config.concepts)
    ]
