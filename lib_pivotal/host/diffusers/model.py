"""A model loaded through diffusers, behind the engine's port."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.lora.naming import kohya_key, role_of
from lib_pivotal.core.ports import EncodedText, LoraTarget, PictureSize
from lib_pivotal.core.resting import Resting
from lib_pivotal.host.diffusers.checkpoint import Networks, load_networks
from lib_pivotal.host.diffusers.codec import VaeCodec
from lib_pivotal.host.diffusers.text import HfEncoder

__all__ = ["DiffusersModel", "load_model"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_model(path: Path, *, clip_skip: int = 1, precision: str = "auto", device: str | None = None) -> DiffusersModel:
    """Load a model of SD1, SD2 or SDXL.

    Args:
        path: ``.safetensors`` checkpoint or diffusers folder.
        clip_skip: 1 is the last layer.
        precision: of the forward pass: ``fp32``, ``fp16``, ``bf16``; ``auto`` is fp16 on a GPU, else fp32.
        device: torch device; None takes the GPU where there is one.

    Raises:
        HostError: there is no such model, it cannot be trained, or the device does not exist.
    """
    place = _device(device)
    if precision == "auto":
        precision = "fp16" if place.type == "cuda" else "fp32"
    return DiffusersModel(load_networks(path), clip_skip=clip_skip, dtype=_DTYPES[precision], device=place)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise HostError(f"There is no device {name}.", hint="Use cpu, cuda, cuda:0, … or mps.") from error
    return device


class DiffusersModel:
    """A model of SD1, SD2 or SDXL; implements ``core.ports.DiffusionModel``.

    Args:
        networks: frozen fp32 networks; moved to the device.
        clip_skip: 1 is the last layer.
        dtype: of the forward pass; on a GPU the UNet and the text encoder are stored in it too.
        device: where they work.
    """

    def __init__(self, networks: Networks, *, clip_skip: int, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self._dtype = dtype
        self._networks = networks
        stored = dtype if device.type == "cuda" else torch.float32
        # torch's own ``to``: diffusers' warns of a list of exceptions even where it is empty.
        self.unet = torch.nn.Module.to(networks.unet, device, stored)
        for text in networks.texts:
            text.model.to(device, stored)
        self.family = networks.family
        self.native_resolution = networks.native_resolution
        self.codec = VaeCodec(networks.vae.to(device), networks.scale, device)
        self.text_encoders: Sequence[HfEncoder] = tuple(
            HfEncoder(text, clip_skip, self.autocast) for text in networks.texts
        )
        self._texts = Resting([text.model for text in networks.texts], device)
        self.alphas_cumprod = networks.alphas_cumprod
        self.is_v_prediction = networks.is_v_prediction
        self.needs_loss_scaling = dtype == torch.float16
        self.model_name = networks.source.stem if networks.source.is_file() else networks.source.name

    @property
    def model_hash(self) -> str:
        """sha256 of the checkpoint file or of a folder's weight files; computed when first asked for."""
        return self._networks.digest

    def lora_targets(self) -> list[LoraTarget]:
        """Every Linear and convolution of the UNet and the text encoder, in the order of the modules."""
        targets = []
        for path, module in self.unet.named_modules():
            if _is_target(module):
                targets.append(_target("unet", path, module, self.family))
        for encoder in self.text_encoders:
            for path, module in encoder.text_model.named_modules():
                # open_clip's projection behind the layers is no layer, so webuis could not apply a LoRA of it.
                if _is_target(module) and ".layers." in path:
                    # Files keep the inner level that transformers 5 dropped.
                    full = path if path.startswith("text_model.") else f"text_model.{path}"
                    targets.append(_target(encoder.name, full, module, self.family))
        return targets

    def condition(
        self, texts: Sequence[EncodedText], chunk_count: int, sizes: Sequence[PictureSize], is_empty: Sequence[bool]
    ) -> Any:
        """Chunks of a caption side by side, shape ``(B, 77 * chunk_count, width)``; for SDXL with its vectors.

        An empty caption is all zeros to SDXL, text and pooled text, as in the webui.
        """
        joined = torch.cat([text.hidden for text in texts], dim=-1) if len(texts) > 1 else texts[0].hidden
        hidden = joined.reshape(len(sizes), chunk_count * joined.shape[1], joined.shape[2])
        if self.family != "sdxl":
            return hidden
        assert texts[1].pooled is not None, "SDXL's second encoder has one"
        pooled = texts[1].pooled[::chunk_count]
        if any(is_empty):
            kept = torch.tensor([not empty for empty in is_empty], device=hidden.device)
            hidden, pooled = hidden * kept[:, None, None], pooled * kept[:, None]
        told = [(*size.original, *size.crop, *size.target) for size in sizes]
        return hidden, {"text_embeds": pooled, "time_ids": torch.tensor(told, dtype=torch.float32, device=self.device)}

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

    def save_memory(self) -> None:
        """Keep the VAE in main memory between uses."""
        self.codec.rest()

    def rest_text(self) -> None:
        """Take the text encoders off the device until they are needed."""
        self._texts.rest()

    def text_at_hand(self) -> AbstractContextManager[None]:
        """Within the context the text encoders are on the device."""
        return self._texts.at_hand()

    def verify(self) -> None:
        """Nobody else has this model, so there is nothing to find."""


def _recompute(block: Any, *arguments: Any) -> Any:
    """Not reentrant: inputs without gradient must not cut off the LoRA inside; nothing random is inside."""
    return checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=False)


def _is_target(module: torch.nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    if weight is None:
        return False
    is_linear = weight.ndim == 2 and hasattr(module, "in_features")
    return is_linear or (weight.ndim == 4 and hasattr(module, "in_channels"))


def _target(part: str, path: str, module: Any, family: str) -> LoraTarget:
    kernel = module.weight.shape[-1] if module.weight.ndim == 4 else 1
    return LoraTarget(kohya_key(part, path, family), part, role_of(path, kernel), module)
