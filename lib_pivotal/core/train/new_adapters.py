"""The adapters of a run, as they are before its first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.adapter_set import NEGATIVE, AdapterSet
from lib_pivotal.core.lora.targets import choose_targets
from lib_pivotal.core.ports import DiffusionModel, LoraTarget
from lib_pivotal.core.train.start_from import alpha_ratio

__all__ = ["copied", "new_adapters"]


def new_adapters(config: TrainConfig, model: DiffusionModel) -> list[AdapterSet]:
    """New adapters of the trained parts: UNet, text encoders, and last those of the negative LoRA.

    Args:
        config: kind, ranks, layers and seed are used.
        model: the borrowed model.
    """
    chosen = _chosen(config, model, config.rank, config.conv_rank, config.text_encoder_rank)
    parts = dict.fromkeys(target.part for target, _ in chosen)
    adapters = [_set(part, [pair for pair in chosen if pair[0].part == part], config, model) for part in parts]
    if config.negative_rank:
        # On the same kind of layers as the rank of the other one.
        negative = _set(NEGATIVE, _chosen(config, model, config.negative_rank, 0, 0), config, model)
        negative.only_negative = True
        adapters.append(negative)
    return adapters


def copied(adapters: Sequence[AdapterSet], config: TrainConfig, model: DiffusionModel) -> list[AdapterSet]:
    """The same adapters with the same values, disabled.

    Args:
        adapters: made by :func:`new_adapters` with the other arguments.
        config: see there.
        model: see there.
    """
    copies = new_adapters(config, model)
    with torch.no_grad():
        for copy, part in zip(copies, adapters, strict=True):
            copy.enabled = False
            for own, other in zip(copy.flats, part.flats, strict=True):
                own.values.copy_(other.values)
    return copies


def _chosen(
    config: TrainConfig, model: DiffusionModel, rank: int, conv_rank: int, text_encoder_rank: int
) -> list[tuple[LoraTarget, int]]:
    family = FAMILIES[model.family]
    return choose_targets(
        model.lora_targets(),
        rank=rank,
        conv_rank=conv_rank,
        text_encoder_rank=text_encoder_rank,
        layers=config.lora_layers,
        block_layers=family.block_layers,
        unread_layers=family.unread_layers,
    )


def _set(part: str, chosen: Sequence[tuple[LoraTarget, int]], config: TrainConfig, model: DiffusionModel) -> AdapterSet:
    return AdapterSet.with_ranks(
        part,
        chosen,
        alpha_ratio(config),
        config.seed,
        model.device,
        kind=config.lora_kind,
        lokr_factor=config.lokr_factor,
    )
