"""Estimates the GPU memory of a run before it starts, from its settings, its images and the size of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lib_pivotal.core.config.negative import has_negatives
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.bucket import bucket_for
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.families import FAMILIES, Kept
from lib_pivotal.core.train.output_check import VALUES_PER_RANK, trained_values

__all__ = [
    "DeviceMemory",
    "MemoryEstimate",
    "activation_bytes",
    "changes_captions",
    "encoding_bytes",
    "estimate_memory",
    "graphs_fit",
    "kept_that_fits",
    "may_use_graphs",
    "memory_problems",
    "step_bytes",
]

_TRANSIENT_KIB = 92
"""KiB of gradients and workspaces at the peak of the backward pass, per latent cell and image.

Source: ``python run.py gpu`` on an NVIDIA H200, fp16: 71 for SD1 at 512 px, 91 for SDXL at 1024 px.
"""
_TRANSIENT_CHECKPOINTED_KIB = 40
"""The same with gradient checkpointing, where blocks are recomputed; 36 for SD1, 25 for SDXL."""
_ENCODING_KIB = 208
"""KiB of activations at the peak of the VAE's encoder in fp32, per latent cell and image.

Source: the largest sum of all living tensors, counted on torch's meta device: 204 for the encoder of latent diffusion,
160 for that of diffusers. On a GPU this has not been measured yet.
"""
_TRAINED_BYTES = 16
"""fp32 value, gradient and AdamW's two moments, per trained value."""
_TEACHER_BYTES = 8
"""fp32 value and unused gradient, per value of the bundle that a run starts from and whose names it keeps."""
_WORKSPACE = 256 * 2**20
"""Latents and other small tensors, and a margin, since peaks differ between GPUs."""
_USED_FOR_SPEED = 0.8
"""Share of the memory that ``auto`` uses for speed alone: other programs may need some of it later."""
_CELL = 64
"""Pixels per latent cell."""
_GIB = 2**30


@dataclass(frozen=True)
class DeviceMemory:
    """What a host knows about its GPU and the model to train, in bytes.

    Attributes:
        family: of the model, see ``core.families``.
        unet: weights of the UNet, as they are stored on the device.
        text_encoders: weights of all text encoders, likewise.
        vae: weights of the VAE, in the precision in which it encodes.
        available: memory that a run can use: what is free now, and what the loaded model occupies.
        is_offloaded: whether the host keeps the model in main memory, so that only what is needed is on the device.
        must_recompute: see ``core.ports.DiffusionModel``.
        smaller_storage: how users make the host store the model in fewer bits, as a part of a sentence; empty if they
            cannot.
        can_record: whether steps can be recorded as CUDA graphs.
    """

    family: str
    unet: int
    text_encoders: int
    vae: int
    available: int
    is_offloaded: bool = False
    must_recompute: bool = False
    smaller_storage: str = ""
    can_record: bool = False


@dataclass(frozen=True)
class MemoryEstimate:
    """Estimated peak of a run in bytes, including the weights of the model.

    Attributes:
        encoding: while the images are encoded, one at a time, and next to the other parts only if these fit.
        training: during the steps.
        unet: weights of the UNet alone.
        available: see :class:`DeviceMemory`.
        saves: whether the run saves memory at the cost of speed.
    """

    encoding: int
    training: int
    unet: int
    available: int
    saves: bool

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.encoding, self.training)

    @property
    def missing(self) -> int:
        """How much more memory the run needs than there is; 0 if it fits."""
        return max(self.peak - self.available, 0)

    def as_dict(self) -> dict[str, Any]:
        """All numbers in bytes, serializable as JSON."""
        return {**asdict(self), "peak": self.peak, "missing": self.missing}


def changes_captions(config: TrainConfig) -> bool:
    """Whether captions change at every step, so that their encodings are of no use for later steps."""
    return bool(config.shuffle_tags or config.tag_dropout or config.tag_warmup)


def may_use_graphs(config: TrainConfig) -> bool:
    """Whether the settings allow CUDA graphs: each batch must be predicted once, and without recomputing."""
    predicts_twice = has_negatives(config.concepts) or config.mask_prior > 0
    return config.cuda_graphs and not config.gradient_checkpointing and not predicts_twice


def kept_that_fits(mode: str, available: int | None, needed: Callable[[Kept], int]) -> Kept | None:
    """What the UNet's layers may keep for the backward pass; None if blocks must recompute their activations.

    Args:
        mode: ``fast``, ``save``, or ``auto``.
        available: bytes of memory; None if unknown, as without a GPU.
        needed: what is kept → estimated bytes.
    """
    if mode == "save":
        return None
    if mode == "fast" or available is None or needed("all") <= _USED_FOR_SPEED * available:
        return "all"
    kinds: tuple[Kept, ...] = ("less", "least")
    return next((kept for kept in kinds if needed(kept) <= available), None)


def graphs_fit(needed: int, activations: int, available: int) -> bool:
    """Whether steps may be recorded as CUDA graphs, which keep memory for the activations that no other step can use.

    Args:
        needed: bytes without graphs.
        activations: bytes of the activations among these, see :func:`activation_bytes`.
        available: bytes of memory.
    """
    return needed + activations <= _USED_FOR_SPEED * available


def activation_bytes(family: str, cells: int, *, recomputes: bool, kept: Kept = "all") -> int:
    """Estimated bytes of the UNet's activations and gradients at the peak of a step.

    Args:
        family: name of the model's family, see ``core.families``.
        cells: latent cells of all images of a batch.
        recomputes: whether the UNet's blocks recompute activations in the backward pass.
        kept: what its layers keep where they do not.
    """
    kind = FAMILIES[family]
    plain = kind.activation_kib[kept] + _TRANSIENT_KIB
    saved = kind.checkpointed_activation_kib + _TRANSIENT_CHECKPOINTED_KIB
    return cells * (saved if recomputes else plain) * 1024


def step_bytes(family: str, trained_count: int, cells: int, *, recomputes: bool, kept: Kept = "all") -> int:
    """Estimated bytes that the steps need in addition to the weights of the model.

    Args:
        family: name of the model's family, see ``core.families``.
        trained_count: number of trained values.
        cells: latent cells of all images of a batch.
        recomputes: whether the UNet's blocks recompute activations in the backward pass.
        kept: what its layers keep where they do not.
    """
    activations = activation_bytes(family, cells, recomputes=recomputes, kept=kept)
    return trained_count * _TRAINED_BYTES + activations + _WORKSPACE


def encoding_bytes(cells: int) -> int:
    """Estimated bytes that the VAE needs to encode images in fp32, in addition to its weights.

    Args:
        cells: latent cells of all images that are encoded together.
    """
    return cells * _ENCODING_KIB * 1024


def estimate_memory(config: TrainConfig, images: Sequence[DatasetImage], memory: DeviceMemory) -> MemoryEstimate | None:
    """Estimate the memory of a run; None without images.

    Args:
        config: checked settings.
        images: images that can be used.
        memory: what the host knows.
    """
    buckets = [bucket_for(image.width, image.height, config.resolution) for image in images]
    if not buckets:
        return None
    cells = max(width * height for width, height in buckets) // _CELL
    count = trained_values(config, VALUES_PER_RANK[memory.family])
    keeps_text = changes_captions(config) or bool(config.concepts or config.text_encoder_rank)

    def training(kept: Kept, *, saves: bool = False) -> int:
        recomputes = saves or config.gradient_checkpointing or memory.must_recompute
        # With negative captions each item is predicted twice.
        in_batch = cells * config.batch_size * (2 if has_negatives(config.concepts) else 1)
        is_lean = saves or memory.is_offloaded
        text = memory.text_encoders if keeps_text or not is_lean else 0
        needed = memory.unet + text + (0 if is_lean else memory.vae)
        needed += step_bytes(memory.family, count, in_batch, recomputes=recomputes, kept=kept)
        needed += count * _TEACHER_BYTES if config.start_from and config.keep_names else 0
        if saves and needed > memory.available:
            # The text encoders and the activations are not on the device at the same time.
            needed -= min(text, activation_bytes(memory.family, in_batch, recomputes=True))
        return needed

    kept = kept_that_fits(config.memory, memory.available, training)
    if kept is None:
        needed = training("least", saves=True)
    else:
        needed = training(kept)
        if memory.can_record and may_use_graphs(config) and not (memory.is_offloaded or memory.must_recompute):
            activations = activation_bytes(memory.family, cells * config.batch_size, recomputes=False, kept=kept)
            needed += activations if graphs_fit(needed, activations, memory.available) else 0
    alone = memory.vae + encoding_bytes(cells)
    together = memory.unet + memory.text_encoders + alone
    is_alone = memory.is_offloaded or config.memory == "save" or together > memory.available
    encoding = alone if is_alone else together
    return MemoryEstimate(encoding, needed, memory.unet, memory.available, kept is None)


def memory_problems(estimate: MemoryEstimate, smaller_storage: str = "") -> list[Problem]:
    """What does not fit into the GPU's memory: an error if the UNet alone does not, otherwise a warning.

    Args:
        estimate: of the run.
        smaller_storage: see :class:`DeviceMemory`.
    """
    has = f"{_size(estimate.available)} are available"
    if estimate.unet > estimate.available:
        short = _size(estimate.unet - estimate.available)
        text = f"The UNet alone needs {_size(estimate.unet)} of GPU memory; {has}, so {short} are missing."
        ways = ["Close other programs that use the GPU", smaller_storage, "or use a smaller model"]
        hint = ", ".join(way for way in ways if way) + "."
        return [Problem("memory", "error", text, hint)]
    if not estimate.missing:
        return []
    what = "Training" if estimate.training >= estimate.encoding else "Encoding the images"
    text = f"{what} needs about {_size(estimate.peak)} of GPU memory; {has}, so {_size(estimate.missing)} are missing."
    hint = "Lower the batch size (and accumulate), the rank or the resolution, or close other programs."
    if not estimate.saves:
        hint = f"Set GPU memory to auto or save. {hint}"
    return [Problem("memory", "warning", text, hint)]


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
