"""What the engine needs from a host, as protocols that every host adapter implements.

The engine never sees a webui or a model library: it sees these shapes. ``B`` is the batch, ``N`` the
number of 77-token rows (batch × chunks), ``C`` latent channels, ``h, w`` latent height and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lib_pivotal.core.events import Event

__all__ = [
    "DiffusionModel",
    "EncodedText",
    "LatentCodec",
    "LiveEmbeddings",
    "LoraTarget",
    "PictureSize",
    "ProcessGroup",
    "ProgressSink",
    "Sample",
    "SampleMaker",
    "SampleRequest",
    "SingleProcess",
    "TextEncoder",
]

Value = TypeVar("Value")

LiveEmbeddings = Mapping[str, Mapping[str, "torch.Tensor"]]
"""Embedding name → encoder name → fp32 vectors, shape ``(n_vectors, width)``."""


@dataclass(frozen=True)
class EncodedText:
    """Output of one text encoder.

    Attributes:
        hidden: shape ``(N, 77, width)``, one row per chunk.
        pooled: shape ``(N, pooled_width)`` or None where the model uses none.
    """

    hidden: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True)
class PictureSize:
    """Size of one training picture in pixels, as SDXL is told it.

    Attributes:
        original: (height, width) of the file.
        crop: (top, left) of the crop after scaling.
        target: (height, width) of the bucket.
    """

    original: tuple[int, int]
    crop: tuple[int, int]
    target: tuple[int, int]


@dataclass(frozen=True)
class LoraTarget:
    """A layer that can carry a LoRA.

    Attributes:
        key: kohya key without suffix, e.g. ``lora_unet_down_blocks_0_attentions_0_…_to_q``.
        part: ``"unet"`` or the encoder's name (``"clip_l"``).
        role: ``"attention"``, ``"feed_forward"``, ``"projection"`` (of a transformer block), ``"conv"``
            (kernel > 1, or any layer of a ResNet block) or ``"other"``.
        module: the live layer; its ``weight`` is ``(out, in)`` or ``(out, in, kh, kw)``.
    """

    key: str
    part: str
    role: str
    module: torch.nn.Module


class TextEncoder(Protocol):
    """One text encoder of the model; weights frozen, no dropout active."""

    name: str
    """Bundle name: ``clip_l`` or ``clip_g``."""
    width: int
    """Length of a token vector."""
    start_id: int
    end_id: int
    pad_id: int
    """Fills a row after the first ``end_id``."""

    def tokenize(self, text: str) -> list[int]:
        """Ids of ``text`` taken literally, without start and end; any length."""
        ...

    def token_vectors(self) -> torch.Tensor:
        """The frozen vocabulary table, shape ``(vocabulary, width)``; never to be written."""
        ...

    def encode(
        self, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor
    ) -> EncodedText:
        """Run the encoder exactly as a generation does, with some token vectors replaced.

        Args:
            ids: int64, shape ``(N, 77)``, start, content, end, padding; on the model's device.
            rows: int64, shape ``(K,)``, row of each replaced position.
            columns: int64, shape ``(K,)``, column of each replaced position (1 … 75).
            vectors: fp32, shape ``(K, width)``; gradients flow back into it.
        """
        ...


class LatentCodec(Protocol):
    """The VAE."""

    scale_factor: int
    """Pixels per latent cell (8)."""

    def identity(self) -> str:
        """Hex digest that changes when the codec's weights change; part of the cache key."""
        ...

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the posterior, already scaled for the UNet.

        Args:
            pixels: fp32, shape ``(B, 3, H, W)``, -1 … 1, any device.

        Returns:
            Two fp32 tensors ``(B, C, H/8, W/8)`` on the CPU.
        """
        ...


class DiffusionModel(Protocol):
    """The borrowed model. While it is borrowed nothing in it requires a gradient."""

    family: str
    """``sd1``, ``sd2`` or ``sdxl``."""
    is_v_prediction: bool
    alphas_cumprod: torch.Tensor
    """fp32 on the CPU, shape ``(T,)``, from the schedule the model is used with."""
    device: torch.device
    model_name: str
    """Checkpoint name for people."""
    needs_loss_scaling: bool
    """Whether the forward pass runs in fp16, whose gradients underflow without a loss scale."""
    native_resolution: int
    """Side in pixels the model was made for (512, 768, 1024), shown as a hint."""

    @property
    def text_encoders(self) -> Sequence[TextEncoder]:
        """In the order in which the UNet gets their outputs."""
        ...

    @property
    def codec(self) -> LatentCodec:
        """The VAE."""
        ...

    @property
    def model_hash(self) -> str:
        """sha256 of the checkpoint file or a digest of the weights; empty when unknown."""
        ...

    def lora_targets(self) -> list[LoraTarget]:
        """Every layer that can carry a LoRA, in a fixed order."""
        ...

    def condition(
        self, texts: Sequence[EncodedText], chunk_count: int, sizes: Sequence[PictureSize], is_empty: Sequence[bool]
    ) -> Any:
        """Build what :meth:`predict` takes, from one :class:`EncodedText` per encoder.

        Args:
            texts: each ``hidden`` has ``len(sizes) * chunk_count`` rows, the chunks of one caption in a row.
            chunk_count: rows of a caption.
            sizes: of the items' pictures.
            is_empty: whether an item has no caption, which some families are told by zeros.
        """
        ...

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Any) -> torch.Tensor:
        """The UNet's output for ``noisy`` ``(B, C, h, w)`` at int64 ``timesteps`` ``(B,)``."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """Precision of the forward pass; a null context in fp32."""
        ...

    def checkpointing(self, *, enabled: bool) -> AbstractContextManager[Any]:
        """Within the context the UNet's blocks recompute activations in the backward pass."""
        ...

    def save_memory(self) -> None:
        """From now on keep off the device what is idle: the VAE between uses."""
        ...

    def rest_text(self) -> None:
        """Take the text encoders off the device until :meth:`text_at_hand` needs them."""
        ...

    def text_at_hand(self) -> AbstractContextManager[Any]:
        """Within the context the text encoders are on the device; afterwards they rest again if they did."""
        ...

    def verify(self) -> None:
        """Cheap check, called every step, that the model is still the borrowed one, on its device.

        Raises:
            HostError: if somebody exchanged or moved the model meanwhile.
        """
        ...


@dataclass(frozen=True)
class SampleRequest:
    """A preview picture to make; sizes in pixels."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    cfg_scale: float
    seed: int
    clip_skip: int = 1


@dataclass(frozen=True)
class Sample:
    """A preview picture and the text that describes how it was made."""

    image: Image.Image
    infotext: str


class SampleMaker(Protocol):
    """Makes pictures with the host's own sampler; the attached LoRA acts by itself."""

    def make(self, request: SampleRequest, embeddings: LiveEmbeddings) -> Sample | None:
        """Generate one picture with ``embeddings`` usable by name; None when it was interrupted.

        Leaves global random state, progress state and caches as they were.
        """
        ...


class ProgressSink(Protocol):
    """Takes events; called from the training thread."""

    def handle(self, event: Event) -> None:
        """Take one event; must not raise for want of a user interface."""
        ...


class ProcessGroup(Protocol):
    """Several processes training one model, each on its own device."""

    rank: int
    size: int

    def mean_(self, tensor: torch.Tensor) -> None:
        """Replace ``tensor``, of any shape, in place by its mean over all processes."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process."""
        ...

    def from_first(self, value: Value) -> Value:
        """The first process's ``value`` in all of them; it must be possible to pickle it."""
        ...


class SingleProcess:
    """The process group of one; costs nothing."""

    rank = 0
    size = 1

    def mean_(self, tensor: torch.Tensor) -> None:
        """Nothing to average, whatever the shape."""

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag

    def from_first(self, value: Value) -> Value:
        """The value itself."""
        return value
