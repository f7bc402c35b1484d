"""Preview pictures without a webui: Euler steps with guidance, as the webui's ``Euler`` takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib_pivotal import __version__
from lib_pivotal.core.ports import LiveEmbeddings, PictureSize, Sample, SampleRequest
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.host.diffusers.model import DiffusersModel

__all__ = ["DiffusersSampler"]


class DiffusersSampler:
    """Makes pictures; implements ``core.ports.SampleMaker``. An attached LoRA acts through its hooks.

    Prompts are taken literally, like captions: brackets are characters, names of embeddings are found.

    Args:
        model: makes the predictions.
        stopped: asked at every step whether to give up.
    """

    def __init__(self, model: DiffusersModel, stopped: Callable[[], bool] = lambda: False) -> None:
        self._model = model
        self._stopped = stopped
        signal = model.alphas_cumprod.double()
        self._log_sigmas = ((1 - signal) / signal).sqrt().log()

    @torch.no_grad()
    def make(self, request: SampleRequest, embeddings: LiveEmbeddings) -> Sample | None:
        """Generate one picture with ``embeddings`` usable by name; None when it was stopped.

        Draws from a generator of its own, so global random state stays as it is.
        """
        wanted = self._encode(request.prompt, request, embeddings)
        unwanted = self._encode(request.negative_prompt, request, embeddings)
        latents = self._denoise(request, wanted, unwanted)
        if latents is None:
            return None
        pixels = self._model.codec.decode(latents)[0]
        array = (pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        return Sample(Image.fromarray(array), self._infotext(request))

    def _encode(self, text: str, request: SampleRequest, embeddings: LiveEmbeddings) -> Any:
        """Condition of a prompt, for one picture."""
        size = (request.height, request.width)
        encoders = [encoder.with_clip_skip(request.clip_skip) for encoder in self._model.text_encoders]
        weights = EmbeddingWeights.of(embeddings, self._model.device)
        conditioner = TextConditioner(self._model, weights, encoders=encoders)
        with self._model.autocast():
            return conditioner.encode([text], [PictureSize(size, (0, 0), size)])[0].conditioning

    def _denoise(self, request: SampleRequest, wanted: Any, unwanted: Any) -> torch.Tensor | None:
        codec, device = self._model.codec, self._model.device
        height, width = request.height // codec.scale_factor, request.width // codec.scale_factor
        generator = torch.Generator().manual_seed(request.seed)
        times, sigmas = self._levels(request.steps)
        x = torch.randn(codec.channels, height, width, generator=generator)[None].to(device) * sigmas[0]
        for time, sigma, following in zip(times, sigmas[:-1], sigmas[1:], strict=True):
            if self._stopped():
                return None
            clean = self._clean(x, time, sigma, wanted)
            if request.cfg_scale != 1.0:
                other = self._clean(x, time, sigma, unwanted)
                clean = other + request.cfg_scale * (clean - other)
            x = x + (following - sigma) * (x - clean) / sigma
        return x

    def _levels(self, steps: int) -> tuple[list[float], list[float]]:
        """Timesteps, evenly from the noisiest down, and their sigmas followed by 0.

        Source: Karras et al. 2022, algorithm 1 without churn, https://arxiv.org/abs/2206.00364.
        Host: k-diffusion ``external.py``, ``DiscreteSchedule``, with A1111 1.6.1-1.10.1: sigmas between two
        timesteps are interpolated in their logarithm.
        """
        last = len(self._log_sigmas) - 1
        times = torch.linspace(last, 0, steps, dtype=torch.float64)
        low = times.floor().long()
        high = times.ceil().long()
        part = times - low
        logs = (1 - part) * self._log_sigmas[low] + part * self._log_sigmas[high]
        return times.tolist(), [*logs.exp().tolist(), 0.0]

    def _clean(self, x: torch.Tensor, time: float, sigma: float, condition: Any) -> torch.Tensor:
        """The picture that the model sees in ``x = picture + sigma * noise``, shape ``(1, C, h, w)``."""
        spread = (sigma**2 + 1) ** 0.5
        moment = torch.tensor([time], dtype=torch.float32, device=x.device)
        output = self._model.predict(x / spread, moment, condition)
        if self._model.is_v_prediction:
            return x / spread**2 - output * sigma / spread
        return x - sigma * output

    def _infotext(self, request: SampleRequest) -> str:
        """The webui's text below a picture, which it can read back into its fields."""
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
