"""Builds everything the loop needs from the settings and a borrowed model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lib_pivotal.core.activations.lean import lean, product_dtype
from lib_pivotal.core.config.negative import has_negatives, negatives_of
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.dataset_report import DatasetReport
from lib_pivotal.core.data.image_shares import ImageShares, share_images
from lib_pivotal.core.diffusion.objective import Objective, small_image_gamma
from lib_pivotal.core.families import Kept
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.weight_change import WeightChange
from lib_pivotal.core.optim.build import Optimizer
from lib_pivotal.core.optim.library import find_library
from lib_pivotal.core.ports import DiffusionModel, LiveEmbeddings
from lib_pivotal.core.process_group import ProcessGroup
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingTable, EmbeddingWeights, Layout
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.attention_kernels import differentiable_attention
from lib_pivotal.core.train.batches import Batch, Batcher
from lib_pivotal.core.train.guided_prediction import GuidedPrediction
from lib_pivotal.core.train.kept_names import NameKeeper, TeacherPrediction
from lib_pivotal.core.train.memory import MemoryPlan
from lib_pivotal.core.train.parameter_groups import parameter_groups
from lib_pivotal.core.train.placement import Placement
from lib_pivotal.core.train.prediction import CaptionPrediction, Prediction, PriorPrediction
from lib_pivotal.core.train.recorded_encoder import RecordedEncoder
from lib_pivotal.core.train.recording import recorded_encoders, step_graphs
from lib_pivotal.core.train.resumed import Resumed
from lib_pivotal.core.train.step_count import samples_to_take, total_steps
from lib_pivotal.core.train.step_graphs import StepGraphs
from lib_pivotal.core.train.trained_parts import TrainedParts, make_trained_parts
from lib_pivotal.core.train.training_data import TrainingData, load_training_data
from lib_pivotal.core.train.validation import Validation, validation_batches

__all__ = ["Setup", "prepare"]


@dataclass
class Setup:
    """Everything the loop needs, built once.

    Attributes:
        steps: optimizer steps of the whole run.
        balances: whether the concepts are balanced; false for runs that began in a release without balance.
        predict: gets the model's prediction for a batch.
        prior: gets what the model predicted before the training.
        without_lora: gets what it predicts with the present embeddings and without the LoRA.
        keeper: keeps names that are not trained; None if there are none, or no LoRA that could change them.
        kept: these names → number of vectors.
        teacher_adapters: the adapters that the run started from, if it keeps names; disabled.
        validation: measures images that are not trained; None without any, and in all processes but the first.
        adapters: adapters of the trained parts: UNet and text encoders.
        weight_changes: measure and limit what they change, in the same order.
        layout: rows of each embedding in the tables.
        tables: encoder name → embedding table; empty if no embeddings are trained.
        lr_factors: learning-rate multiplier of each parameter group as a function of the step.
        data_digest: changes when images or captions change.
        memory: how the device's memory is used.
        samples_per_step: number of samples of a step in all processes together.
        graphs: records the UNet's part of the step as CUDA graphs; None where that is not possible, or turned off.
        recorded: all that is recorded.
    """

    config: TrainConfig
    model: DiffusionModel
    steps: int
    balances: bool
    batcher: Batcher
    predict: Prediction
    prior: Prediction
    without_lora: Prediction
    keeper: NameKeeper | None
    kept: Mapping[str, int]
    teacher_adapters: list[AdapterSet]
    validation: Validation | None
    objective: Objective
    adapters: list[AdapterSet]
    weight_changes: list[WeightChange]
    layout: Layout
    tables: dict[str, EmbeddingTable]
    optimizer: Optimizer
    lr_factors: list[Callable[[int], float]]
    image_count: int
    data_digest: str
    memory: MemoryPlan
    samples_per_step: int
    graphs: StepGraphs | None = None
    recorded: Sequence[StepGraphs | RecordedEncoder] = ()

    @property
    def uses_checkpointing(self) -> bool:
        """Whether the UNet's blocks recompute activations in the backward pass."""
        return self.config.gradient_checkpointing or self.memory.saves or self.model.must_recompute

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Within the context the model is ready for training steps: adapters act, and its layers keep what they may."""
        model = self.model
        # Where the products have another precision than the weights, torch would keep a copy of each weight.
        casts = product_dtype(model.unet, model.autocast) != next(model.unet.parameters()).dtype
        kept: Kept = "least" if self.uses_checkpointing or casts else self.memory.kept
        if model.must_recompute:
            # Keeping less means to compute with the weights of layers, which those of 8 bits do not allow.
            kept = "all"
        layers = lean(model.unet, model.autocast, kept)
        adapters = [*self.adapters, *self.teacher_adapters]
        recomputing = model.checkpointing(enabled=self.uses_checkpointing)
        with attach(adapters), layers, recomputing, differentiable_attention(model.device):
            try:
                yield
            finally:
                for each in self.recorded:
                    each.clear()

    @property
    def trainable_count(self) -> int:
        """Number of trainable values."""
        adapters = sum(flat.values.numel() for part in self.adapters for flat in part.flats)
        return adapters + sum(table.weight.numel() for table in self.tables.values())

    def target(self, noisy: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        """What the model should predict for noisy latents ``(B, C, h, w)``, same shape; None for noise or velocity."""
        if batch.is_kept and self.keeper is not None:
            return self.keeper.teacher(noisy, batch)
        return self.prior(noisy, batch) if batch.has_prior else None

    def embeddings(self) -> LiveEmbeddings:
        """The current embeddings: name → encoder name → vectors ``(n_vectors, width)``, copies on the CPU."""
        result: dict[str, dict[str, torch.Tensor]] = {}
        for encoder, table in self.tables.items():
            for name, vectors in table.values().items():
                result.setdefault(name, {})[encoder] = vectors
        return result


def prepare(
    config: TrainConfig,
    model: DiffusionModel,
    *,
    cache: Path,
    group: ProcessGroup,
    progress: Callable[[str, int, int], None],
    stopped: Callable[[], bool],
    dataset: DatasetReport | None = None,
    resumed: Resumed | None = None,
) -> Setup:
    """Encode the images and build the run; the model is not changed.

    Args:
        config: checked settings.
        model: the borrowed model.
        cache: folder of stored latents.
        group: the processes that train together.
        progress: called with (stage, done, total).
        stopped: polled regularly; returns whether to stop.
        dataset: result of the check; None reads the data folder.
        resumed: what a resumed run keeps from its start; None for a new run.

    Raises:
        DatasetError: an image turned out unusable.
        BundleError: the run cannot start from the bundle that the settings name.
        ConfigError: the optimizer is not installed, or the run cannot be resumed with this number of processes.
        Interrupted: ``stopped`` returned True.
    """
    has_lora = config.rank or config.conv_rank or config.text_encoder_rank
    library = find_library(config.optimizer, config.optimizer_args) if has_lora else None
    # Found out before the images are encoded, since it may fail.
    samples = samples_to_take(config, group.size, resumed)
    placement = Placement(config, model)
    data = load_training_data(
        config,
        model.vae,
        dataset,
        cache=cache,
        group=group,
        progress=lambda done, total: progress("encoding images", done, total),
        stopped=stopped,
        batch_size=placement.for_encoding(),
    )
    parts = make_trained_parts(config, model, resumed)
    balances = resumed is None or resumed.balances
    shares = share_images(data.images, config, balances=balances)
    steps = total_steps(config, shares, model.family, processes=group.size, resumed=resumed)
    groups, lr_factors = parameter_groups(config, model, parts.adapters, parts.tables, steps, library)
    memory = placement.for_steps(
        data.items,
        trained_count=sum(each.parameter.numel() for each in groups),
        trains_text=bool(parts.tables) or any(part.part != "unet" for part in parts.adapters),
    )
    objective = _objective(config, model)
    encoders = recorded_encoders(config, model, parts.adapters, memory, placement)
    conditioner = parts.conditioner(
        config,
        model,
        may_offload=placement.may_offload_text,
        encodes_twice=memory.swaps_text,
        encoders=encoders,
    )
    optimizer = Optimizer(
        groups, clip_norm=config.clip_norm, uses_fp16=model.needs_loss_scaling, device=model.device, library=library
    )
    options: dict[str, bool] = {
        "has_emphasis": config.emphasis, "caches_in_main_memory": placement.may_offload_text
    }  # fmt: skip
    graphs = None
    if encoders:
        graphs = step_graphs(model, conditioner, objective, optimizer, parts.adapters, memory)
    return Setup(
        config=config,
        model=model,
        steps=steps,
        balances=balances,
        batcher=_batcher(config, model, data, shares, group, steps, samples),
        predict=_prediction(config, model, conditioner),
        prior=PriorPrediction(model, parts.adapters, None, **options),
        without_lora=PriorPrediction(model, parts.adapters, parts.embeddings, **options),
        keeper=_keeper(config, model, parts, samples, options),
        kept=parts.kept,
        teacher_adapters=parts.teacher,
        validation=_validation(config, model, data, parts, objective, placement),
        objective=objective,
        adapters=parts.adapters,
        weight_changes=[WeightChange(part) for part in parts.adapters],
        layout=parts.layout,
        tables=parts.tables,
        optimizer=optimizer,
        lr_factors=lr_factors,
        image_count=shares.image_count,
        data_digest=data.digest,
        memory=memory,
        samples_per_step=samples,
        graphs=graphs,
        recorded=[*encoders, graphs] if graphs is not None else [],
    )


def _batcher(
    config: TrainConfig,
    model: DiffusionModel,
    data: TrainingData,
    shares: ImageShares,
    group: ProcessGroup,
    steps: int,
    samples: int,
) -> Batcher:
    return Batcher(
        data.images,
        data.entries,
        data.items,
        config,
        timestep_count=len(model.alphas_cumprod),
        device=model.device,
        weights=shares.weights,
        rank=group.rank,
        processes=group.size,
        steps=steps,
        items_per_step=samples // group.size,
    )


def _objective(config: TrainConfig, model: DiffusionModel) -> Objective:
    return Objective(
        model.alphas_cumprod,
        is_v_prediction=model.is_v_prediction,
        weighting=config.loss_weighting,
        min_snr_gamma=small_image_gamma(config.min_snr_gamma, model.native_resolution),
        huber_c=config.huber_c,
        device=model.device,
    )


def _prediction(config: TrainConfig, model: DiffusionModel, conditioner: TextConditioner) -> Prediction:
    predict = CaptionPrediction(model, conditioner)
    if not has_negatives(config.concepts):
        return predict
    return GuidedPrediction(predict, config.negative_guidance, negative_with_lora=config.negative_with_lora)


def _validation(
    config: TrainConfig,
    model: DiffusionModel,
    data: TrainingData,
    parts: TrainedParts,
    objective: Objective,
    placement: Placement,
) -> Validation | None:
    if not data.validation.images:
        return None
    # Its own conditioner, because the cache of the other one decides which captions are encoded together.
    conditioner = parts.conditioner(config, model, caches_in_main_memory=placement.may_offload_text)
    predict = _prediction(config, model, conditioner)
    batches = validation_batches(data.validation, data.images, config, objective.timestep_count, model.device)
    return Validation(batches, model, predict, objective)


def _keeper(
    config: TrainConfig, model: DiffusionModel, parts: TrainedParts, samples: int, options: Mapping[str, bool]
) -> NameKeeper | None:
    negatives = negatives_of(config.concepts, parts.kept)
    names = [name for name in parts.kept if name not in negatives]
    if not names or not parts.adapters:
        return None
    embeddings = EmbeddingWeights(parts.layout, {name: table.weight.detach() for name, table in parts.tables.items()})
    return NameKeeper(
        names,
        config,
        timestep_count=len(model.alphas_cumprod),
        samples_per_step=samples,
        teacher=TeacherPrediction(model, parts.teacher, parts.adapters, embeddings, **options),
    )
