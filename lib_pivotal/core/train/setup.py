"""From settings and a borrowed model to everything the loop needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.dataset_report import DatasetReport
from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.lora.inject import LoraWeights, choose_targets
from lib_pivotal.core.optim.build import Optimiser, TrainedGroup
from lib_pivotal.core.optim.schedule import embedding_factor, lora_factor
from lib_pivotal.core.pivot.vectors import ConceptVectors, spans
from lib_pivotal.core.ports import DiffusionModel, ProcessGroup
from lib_pivotal.core.train.batches import Batcher
from lib_pivotal.core.train.memory import MemoryPlan, plan_memory
from lib_pivotal.core.train.texts import TextPath
from lib_pivotal.core.train.training_data import load_training_data

__all__ = ["Setup", "prepare", "total_steps"]


@dataclass
class Setup:
    """Everything the loop needs, built once.

    Attributes:
        steps: optimiser steps of the whole run.
        factors: learning-rate multiplier of each optimiser group as a function of the step.
        data_digest: changes when pictures or captions change.
        memory: how the device's memory is used.
    """

    config: TrainConfig
    model: DiffusionModel
    steps: int
    batcher: Batcher
    texts: TextPath
    objective: Objective
    loras: list[LoraWeights]
    tables: list[ConceptVectors]
    optimiser: Optimiser
    factors: list[Callable[[int], float]]
    picture_count: int
    data_digest: str
    memory: MemoryPlan

    @property
    def checkpoints(self) -> bool:
        """Whether the UNet's blocks recompute activations in the backward pass."""
        return self.config.gradient_checkpointing or self.memory.saves

    @property
    def trainable_count(self) -> int:
        """Number of trained values."""
        loras = sum(lora.group.flat.numel() for lora in self.loras)
        return loras + sum(table.table.numel() for table in self.tables)


def total_steps(config: TrainConfig, picture_count: int) -> int:
    """The asked number of steps, or 20 a picture within 600 … 1500."""
    return config.steps or max(600, min(1500, 20 * picture_count))


def prepare(
    config: TrainConfig,
    model: DiffusionModel,
    *,
    cache: Path,
    group: ProcessGroup,
    progress: Callable[[str, int, int], None],
    stopped: Callable[[], bool],
    dataset: DatasetReport | None = None,
) -> Setup:
    """Encode and build; the model is not changed.

    Args:
        config: checked settings.
        model: the borrowed model.
        cache: folder of stored latents.
        group: the processes.
        progress: called with (stage, done, total).
        stopped: asked now and then whether to give up.
        dataset: of the check; None reads the data folder.

    Raises:
        DatasetError: an image turned out unusable.
        Interrupted: ``stopped`` said so.
    """
    data = load_training_data(
        config,
        model.codec,
        dataset,
        cache=cache,
        group=group,
        progress=lambda done, total: progress("encoding pictures", done, total),
        stopped=stopped,
    )
    loras = _loras(config, model)
    tables = _tables(config, model)
    steps = total_steps(config, len(data.images))
    groups, factors = _groups(config, loras, tables, steps)
    memory = plan_memory(
        model.family,
        model.device,
        mode=config.memory,
        checkpoints=config.gradient_checkpointing,
        trained_count=sum(group.parameter.numel() for group in groups),
        cells=max(item.mean.shape[-2] * item.mean.shape[-1] for item in data.items),
        batch_size=config.batch_size,
    )
    if memory.saves:
        model.save_memory()
    # Captions that are mixed anew at each step need the encoders to the end.
    may_rest = memory.saves and not config.shuffle_tags and config.tag_dropout == 0.0
    return Setup(
        config=config,
        model=model,
        steps=steps,
        batcher=Batcher(
            data.images,
            data.entries,
            data.items,
            config,
            timestep_count=len(model.alphas_cumprod),
            device=model.device,
            rank=group.rank,
            processes=group.size,
        ),
        texts=TextPath(model, tables, [lora for lora in loras if lora.group.name != "unet"], may_rest=may_rest),
        objective=Objective(
            model.alphas_cumprod,
            is_v_prediction=model.is_v_prediction,
            weighting=config.loss_weighting,
            min_snr_gamma=config.min_snr_gamma,
            device=model.device,
        ),
        loras=loras,
        tables=tables,
        optimiser=Optimiser(
            groups, clip_norm=config.clip_norm, uses_fp16=model.needs_loss_scaling, device=model.device
        ),
        factors=factors,
        picture_count=len(data.images),
        data_digest=data.digest,
        memory=memory,
    )


def _loras(config: TrainConfig, model: DiffusionModel) -> list[LoraWeights]:
    chosen = choose_targets(model.lora_targets(), config)
    # Where the attention has no LoRA, alpha belongs to the largest rank there is.
    rank = config.rank or max(config.conv_rank, config.text_encoder_rank, 1)
    ratio = config.alpha / rank
    parts = dict.fromkeys(target.part for target, _ in chosen)
    return [
        LoraWeights(part, [pair for pair in chosen if pair[0].part == part], ratio, config.seed, model.device)
        for part in parts
    ]


def _tables(config: TrainConfig, model: DiffusionModel) -> list[ConceptVectors]:
    if not config.concepts:
        return []
    layout = spans(config.concepts, model.text_encoders[0])
    return [
        ConceptVectors(config.concepts, layout, encoder, config.seed, model.device) for encoder in model.text_encoders
    ]


def _groups(
    config: TrainConfig, loras: list[LoraWeights], tables: list[ConceptVectors], steps: int
) -> tuple[list[TrainedGroup], list[Callable[[int], float]]]:
    """Optimiser groups and, in the same order, their learning-rate multipliers."""
    groups: list[TrainedGroup] = []
    factors: list[Callable[[int], float]] = []
    start, schedule = config.lora_start if tables else 0.0, config.schedule
    for lora in loras:
        rate = config.unet_lr if lora.group.name == "unet" else config.text_encoder_lr
        groups.append(TrainedGroup(lora.group.name, lora.group.flat, rate, config.weight_decay))
        factors.append(lambda step: lora_factor(step, steps, start=start, schedule=schedule, warmup=config.warmup))
    for table in tables:
        for concept in config.concepts:
            name = f"{concept.name} {table.encoder_name}"
            rate = config.embedding_lr * concept.lr_multiplier
            groups.append(TrainedGroup(name, table.parts[concept.name], rate, 0.0))
            factors.append(
                lambda step, stop=concept.stop_at: embedding_factor(  # type: ignore[misc]
                    step, steps, schedule=schedule, stop_at=stop
                )
            )
    return groups, factors
