"""Preview images without a webui: Euler steps with guidance, like the webui's sampler ``Euler``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib_pivotal import __version__
from lib_pivotal.core.negative_rows import NegativeRows, with_negative_rows
from lib_pivotal.core.ports import ImageSize, LiveEmbeddings, Sample, SampleRequest
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.host.diffusers.model import DiffusersModel

__all__ = ["DiffusersSampler"]


class DiffusersSampler:
    """Makes preview images; implements ``core.ports.SampleMaker``. An attached LoRA acts through its hooks.

    Prompts are read like captions: brackets are ordinary characters, names of embeddings are recognized.

    Args:
        model: makes the predictions.
        stopped: called at every step; True interrupts the image.
    """

    def __init__(self, model: DiffusersModel, stopped: Callable[[], bool] = lambda: False) -> None:
        self._model = model
        self._stopped = stopped
        alphas_cumprod = model.alphas_cumprod.double()
        self._log_sigmas = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().log()

    @torch.no_grad()
    def make(self, request: SampleRequest, embeddings: LiveEmbeddings) -> Sample | None:
        """Generate one image whose prompt may name ``embeddings``; None when it was interrupted.

        Uses a random generator of its own, so global random state stays as it is.
        """
        cond = self._encode(request.prompt, request, embeddings)
        uncond = self._encode(request.negative_prompt, request, embeddings)
        latents = self._denoise(request, cond, uncond)
        if latents is None:
            return None
        pixels = self._model.vae.decode(latents)[0]
        array = (pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        return Sample(Image.fromarray(array), self._infotext(request))

    def _encode(self, text: str, request: SampleRequest, embeddings: LiveEmbeddings) -> Any:
        """The conditioning of a prompt, for one image."""
        size = (request.height, request.width)
        encoders = [encoder.with_clip_skip(request.clip_skip) for encoder in self._model.text_encoders]
        weights = EmbeddingWeights.of(embeddings, self._model.device)
        conditioner = TextConditioner(self._model, weights, encoders=encoders)
        with self._model.autocast():
            return conditioner.encode([text], [ImageSize(size, (0, 0), size)])[0].conditioning

    def _denoise(self, request: SampleRequest, cond: Any, uncond: Any) -> torch.Tensor | None:
        vae, device = self._model.vae, self._model.device
        height, width = request.height // vae.scale_factor, request.width // vae.scale_factor
        generator = torch.Generator().manual_seed(request.seed)
        timesteps, sigmas = self._timesteps(request.steps)
        x = torch.randn(vae.channels, height, width, generator=generator)[None].to(device) * sigmas[0]
        for t, sigma, next_sigma in zip(timesteps, sigmas[:-1], sigmas[1:], strict=True):
            if self._stopped():
                return None
            denoised = self._denoised(x, t, sigma, cond)
            if request.cfg_scale != 1.0:
                with with_negative_rows(NegativeRows(0, len(x))):
                    denoised_uncond = self._denoised(x, t, sigma, uncond)
                denoised = denoised_uncond + request.cfg_scale * (denoised - denoised_uncond)
            x = x + (next_sigma - sigma) * (x - denoised) / sigma
        return x

    def _timesteps(self, steps: int) -> tuple[list[float], list[float]]:
        """Timesteps, evenly spaced from the noisiest down, and their sigmas followed by 0.

        Source: Karras et al. 2022, algorithm 1 without churn, https://arxiv.org/abs/2206.00364.
        Host: k-diffusion ``external.py``, ``DiscreteSchedule``, with A1111 1.6.1-1.10.1: the logarithm of sigma is
        interpolated between two timesteps.
        """
        last = len(self._log_sigmas) - 1
        t = torch.linspace(last, 0, steps, dtype=torch.float64)
        low = t.floor().long()
        high = t.ceil().long()
        weight = t - low
        log_sigmas = (1 - weight) * self._log_sigmas[low] + weight * self._log_sigmas[high]
        return t.tolist(), [*log_sigmas.exp().tolist(), 0.0]

    def _denoised(self, x: torch.Tensor, t: float, sigma: float, condition: Any) -> torch.Tensor:
        """The model's estimate of the latents in ``x = latents + sigma * noise``, shape ``(1, C, h, w)``."""
        norm = (sigma**2 + 1) ** 0.5  # c_in is 1 / norm
        timestep = torch.tensor([t], dtype=torch.float32, device=x.device)
        output = self._model.predict(x / norm, timestep, condition)
        if self._model.is_v_prediction:
            return x / norm**2 - output * sigma / norm  # c_skip * x + c_out * output
        return x - sigma * output

    def _infotext(self, request: SampleRequest) -> str:
        """The generation parameters as the webui writes them, so that it can read them back into its fields."""
        model = self._model
        values = {
            "Steps": request.steps,
            "Sampler": "Euler",
            "CFG scale": request.cfg_scale,
            "Seed": request.seed,
            "Size": f"{request.width}x{request.height}",
            "Model hash": model.model_hash[:10],
            "Model": model.model_name,
            "Clip skip": request.clip_skip if request.clip_skip > 1 else None,
            "RNG": "CPU",
            "Version": f"pivotal {__version__}",
        }
        lines = [request.prompt]
        if request.negative_prompt:
            lines.append(f"Negative prompt: {request.negative_prompt}")
        lines.append(", ".join(f"{name}: {value}" for name, value in values.items() if value is not None))
        return "\n".join(lines)
