"""What the engine needs from a host: the protocols that every host adapter implements.

The engine never sees a webui or a model library, only these protocols. ``B`` is the batch size, ``N`` the number of
77-token rows (batch × chunks), ``C`` latent channels, ``h, w`` latent height and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lib_pivotal.core.events import Event

__all__ = [
    "VAE",
    "DiffusionModel",
    "EncodedText",
    "ImageSize",
    "LiveEmbeddings",
    "LoraTarget",
    "ModelPart",
    "Offloading",
    "ProgressSink",
    "Sample",
    "SampleMaker",
    "SampleRequest",
    "TextEncoder",
]

LiveEmbeddings = Mapping[str, Mapping[str, "torch.Tensor"]]
"""Embedding name → encoder name → fp32 vectors, shape ``(n_vectors, width)``."""

ModelPart = Literal["unet", "text_encoders", "vae"]
"""A part of a model that can be moved separately."""


@dataclass(frozen=True)
class EncodedText:
    """Output of one text encoder.

    Attributes:
        hidden: shape ``(N, 77, width)``, one row per chunk.
        pooled: shape ``(N, pooled_width)``, or None for an encoder without pooled text.
    """

    hidden: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True)
class ImageSize:
    """Size of a training image in pixels, which SDXL's UNet gets in addition to the text.

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
    """A layer that can have a LoRA.

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
    """One text encoder of the model; its weights are frozen and dropout is off."""

    name: str
    """Bundle name: ``clip_l`` or ``clip_g``."""
    width: int
    """Length of a token vector."""
    start_id: int
    end_id: int
    pad_id: int
    """Token id that pads a row after the first ``end_id``."""

    @property
    def module(self) -> torch.nn.Module:
        """The network, with all of its weights."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the literal text, of any length, without start and end tokens."""
        ...

    def token_vectors(self) -> torch.Tensor:
        """The frozen token embedding table, shape ``(vocabulary, width)``; must not be changed."""
        ...

    def encode(
        self, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor
    ) -> EncodedText:
        """Run the encoder exactly as in a generation, with some token vectors replaced.

        Args:
            ids: int64, shape ``(N, 77)``: start, content, end, padding; on the model's device.
            rows: int64, shape ``(K,)``, row of each replaced vector.
            columns: int64, shape ``(K,)``, column of each replaced vector (1 … 75).
            vectors: fp32, shape ``(K, width)``; gradients flow back into it.
        """
        ...


class VAE(Protocol):
    """Turns images into latents."""

    scale_factor: int
    """Pixels per latent cell (8)."""

    def identity(self) -> str:
        """Hex digest that changes when the VAE's weights change; stored latents are looked up by it."""
        ...

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the posterior, already scaled for the UNet.

        Args:
            pixels: fp32, shape ``(B, 3, H, W)``, -1 … 1, any device.

        Returns:
            Two fp32 tensors ``(B, C, H/8, W/8)`` on the CPU.
        """
        ...


class Offloading(Protocol):
    """Moves parts of the model between the device and main memory.

    All parts start on the device, except on a host that keeps the whole model in main memory.
    """

    def is_offloaded(self, part: ModelPart) -> bool:
        """Whether a part stays in main memory between uses."""
        ...

    def weight_bytes(self, part: ModelPart) -> int:
        """Size of the weights of a part in bytes, as they are stored."""
        ...

    def offload(self, part: ModelPart) -> None:
        """Move a part to main memory; from then on it is on the device only within :meth:`on_device`."""
        ...

    def keep_on_device(self, part: ModelPart) -> None:
        """Move an offloaded part to the device, where it stays."""
        ...

    def on_device(self, part: ModelPart) -> AbstractContextManager[Any]:
        """Keep a part on the device within the context, even if it is offloaded; may be nested."""
        ...


class DiffusionModel(Protocol):
    """The borrowed model. While it is borrowed, nothing in it requires a gradient."""

    family: str
    """Name of the model's family, see ``core.families``."""
    is_v_prediction: bool
    alphas_cumprod: torch.Tensor
    """Noise schedule that the model is used with: fp32 on the CPU, shape ``(T,)``."""
    device: torch.device
    model_name: str
    """Checkpoint name to show to users."""
    needs_loss_scaling: bool
    """Whether the forward pass runs in fp16, where gradients underflow without loss scaling."""
    must_recompute: bool
    """Whether activations must be recomputed in the backward pass, because the UNet is stored in 8 bits: otherwise the
    wider copies of all its weights, which a step makes, would be kept for the backward pass."""
    native_resolution: int
    """Side length in px that the model was trained for (512, 768 or 1024), used for warnings."""

    @property
    def unet(self) -> torch.nn.Module:
        """The network itself, whose layers keep less while it is trained on, see ``activations/lean.py``."""
        ...

    @property
    def text_encoders(self) -> Sequence[TextEncoder]:
        """The text encoders, in the order in which the UNet gets their outputs."""
        ...

    @property
    def vae(self) -> VAE:
        """Turns images into latents."""
        ...

    @property
    def offloading(self) -> Offloading:
        """Moves UNet, text encoders and VAE off the device and back."""
        ...

    @property
    def model_hash(self) -> str:
        """sha256 of the checkpoint file or a digest of the weights; empty when unknown."""
        ...

    def lora_targets(self) -> list[LoraTarget]:
        """Every layer that can have a LoRA, in a fixed order."""
        ...

    def condition(
        self, texts: Sequence[EncodedText], chunk_count: int, sizes: Sequence[ImageSize], is_empty: Sequence[bool]
    ) -> Any:
        """Build the conditioning that :meth:`predict` takes.

        Args:
            texts: one per encoder; each ``hidden`` has ``len(sizes) * chunk_count`` rows, the chunks of a caption in
                sequence.
            chunk_count: number of chunks per caption.
            sizes: size of each image.
            is_empty: whether each caption is empty, which some families encode as zeros.
        """
        ...

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Any) -> torch.Tensor:
        """The UNet's output for ``noisy`` ``(B, C, h, w)`` at int64 ``timesteps`` ``(B,)``."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """Autocast context for the forward pass; a null context in fp32."""
        ...

    def checkpointing(self, *, enabled: bool) -> AbstractContextManager[Any]:
        """Let the UNet's blocks recompute activations in the backward pass, within the context."""
        ...

    def verify(self) -> None:
        """Check that the model is still the borrowed one and on its device; cheap, called at every step.

        Raises:
            HostError: the model was replaced or moved in the meantime.
        """
        ...

    def poll_requests(self) -> None:
        """Pass on what users asked the host for, e.g. the webui's Interrupt, to the run's ``Control``.

        Cheap; called at every step and before each batch of images is encoded.
        """
        ...


@dataclass(frozen=True)
class SampleRequest:
    """A preview image to make; sizes in pixels."""

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
    """A preview image and the text that describes how it was made."""

    image: Image.Image
    infotext: str


class SampleMaker(Protocol):
    """Makes preview images with the host's own sampler; an attached LoRA takes effect automatically."""

    def make(self, request: SampleRequest, embeddings: LiveEmbeddings) -> Sample | None:
        """Generate an image whose prompt may use ``embeddings``; None if it was interrupted.

        Global random state, progress state and caches are restored afterwards.
        """
        ...


class ProgressSink(Protocol):
    """Receives events; called from the training thread."""

    def handle(self, event: Event) -> None:
        """Receive an event; must not raise, for example if there is no user interface."""
        ...
