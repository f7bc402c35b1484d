"""A model loaded through diffusers, as the engine sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.targets import is_lora_layer, lora_target
from lib_pivotal.core.negative_rows import with_same_rows
from lib_pivotal.core.ports import EncodedText, ImageSize, LoraTarget
from lib_pivotal.core.textual_inversion.conditioning import join_encoders
from lib_pivotal.core.to_device import to_device
from lib_pivotal.host.diffusers.checkpoint import load_networks
from lib_pivotal.host.diffusers.networks import Networks
from lib_pivotal.host.diffusers.text import HfEncoder
from lib_pivotal.host.diffusers.vae import DiffusersVae
from lib_pivotal.host.offload import Offloading

__all__ = ["DiffusersModel", "load_model"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_model(path: Path, *, clip_skip: int = 1, precision: str = "auto", device: str | None = None) -> DiffusersModel:
    """Load an SD1, SD2 or SDXL model.

    Args:
        path: ``.safetensors`` checkpoint or diffusers folder.
        clip_skip: 1 is the last layer.
        precision: of the forward pass: ``fp32``, ``fp16``, ``bf16``; ``auto`` is fp16 on a GPU, otherwise fp32.
        device: torch device; None takes the GPU where there is one.

    Raises:
        HostError: there is no such model, it cannot be trained, or the device does not exist.
    """
    chosen = _device(device)
    if precision == "auto":
        precision = "fp16" if chosen.type == "cuda" else "fp32"
    return DiffusersModel(load_networks(path), clip_skip=clip_skip, dtype=_DTYPES[precision], device=chosen)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise HostError(f"There is no device {name}.", hint="Use cpu, cuda, cuda:0, … or mps.") from error
    return device


class DiffusersModel:
    """An SD1, SD2 or SDXL model; implements ``core.ports.DiffusionModel``.

    Args:
        networks: frozen fp32 networks; moved to the device.
        clip_skip: 1 is the last layer.
        dtype: of the forward pass; on a GPU the UNet and the text encoders are stored in it too.
        device: where they work.
    """

    def __init__(self, networks: Networks, *, clip_skip: int, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self._dtype = dtype
        self._networks = networks
        stored = dtype if device.type == "cuda" else torch.float32
        # torch's own ``to``: that of diffusers warns about a list of exceptions even where it is empty.
        self.unet = torch.nn.Module.to(networks.unet, device, stored)
        for text in networks.texts:
            text.model.to(device, stored)
        self.family = networks.family
        self.native_resolution = networks.native_resolution
        texts = [text.model for text in networks.texts]
        vae = networks.vae.to(device)
        self.offloading = Offloading({"unet": [self.unet], "text_encoders": texts, "vae": [vae]}, device)
        self.vae = DiffusersVae(vae, networks.scale, device, self.offloading)
        self.text_encoders: Sequence[HfEncoder] = tuple(
            HfEncoder(text, clip_skip, self.autocast) for text in networks.texts
        )
        self.alphas_cumprod = networks.alphas_cumprod
        self.is_v_prediction = networks.is_v_prediction
        self.needs_loss_scaling = dtype == torch.float16
        self.must_recompute = False
        self.model_name = networks.source.stem if networks.source.is_file() else networks.source.name

    @property
    def model_hash(self) -> str:
        """sha256 of the checkpoint file or of a folder's weight files; computed at the first access."""
        return self._networks.digest

    def lora_targets(self) -> list[LoraTarget]:
        """Every Linear layer and convolution of the UNet and the text encoders, in the order of the modules."""
        targets = []
        for path, module in self.unet.named_modules():
            if is_lora_layer(module):
                targets.append(lora_target("unet", path, module, self.family))
        for encoder in self.text_encoders:
            for path, module in encoder.text_model.named_modules():
                # open_clip's projection after the layers is not a module there, so webuis could not apply its LoRA.
                if is_lora_layer(module) and ".layers." in path:
                    # Files have the inner level that transformers 5 dropped.
                    full = path if path.startswith("text_model.") else f"text_model.{path}"
                    targets.append(lora_target(encoder.name, full, module, self.family))
        return targets

    def condition(
        self, texts: Sequence[EncodedText], chunk_count: int, sizes: Sequence[ImageSize], is_empty: Sequence[bool]
    ) -> Any:
        """The hidden states, shape ``(B, 77 * chunk_count, width)``; with pooled text and sizes for SDXL."""
        family = FAMILIES[self.family]
        hidden, pooled = join_encoders(texts, chunk_count, is_empty, zero_empty=family.zero_empty_caption)
        if not family.has_size_conditioning:
            return hidden
        numbers = [(*size.original, *size.crop, *size.target) for size in sizes]
        time_ids = to_device(torch.tensor(numbers, dtype=torch.float32), self.device)
        return hidden, {"text_embeds": pooled, "time_ids": time_ids}

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Any) -> torch.Tensor:
        """The UNet's output for ``noisy`` ``(B, C, h, w)`` at ``timesteps`` ``(B,)``; same dtype as ``noisy``."""
        text, added = condition if isinstance(condition, tuple) else (condition, None)
        with self.autocast():
            output: torch.Tensor = self.unet(noisy, timesteps, text, added_cond_kwargs=added, return_dict=False)[0]
        return output.to(noisy.dtype)

    def autocast(self) -> AbstractContextManager[Any]:
        """Precision of the forward pass; a null context in fp32."""
        if self._dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    @contextlib.contextmanager
    def checkpointing(self, *, enabled: bool) -> Iterator[None]:
        """Within the context the UNet's blocks recompute activations in the backward pass."""
        if not enabled:
            yield
            return
        self.unet.enable_gradient_checkpointing(_recompute)
        try:
            yield
        finally:
            self.unet.disable_gradient_checkpointing()

    def verify(self) -> None:
        """Does nothing: only this process uses the model."""

    def poll_requests(self) -> None:
        """Does nothing: without a webui there are no requests."""


def _recompute(block: Any, *arguments: Any) -> Any:
    """Not reentrant, so that the LoRA inside gets gradients although the inputs have none; nothing inside is random."""
    return checkpoint(with_same_rows(block), *arguments, use_reentrant=False, preserve_rng_state=False)
