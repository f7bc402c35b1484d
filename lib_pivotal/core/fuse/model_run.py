"""Runs the model as a generation or a training would, so that the inputs of its layers can be recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from lib_pivotal.core.diffusion.item_random import item_seed
from lib_pivotal.core.diffusion.noise import item_noise
from lib_pivotal.core.errors import Interrupted
from lib_pivotal.core.families import CHUNK_TOKENS
from lib_pivotal.core.fuse.recorder import InputRecorder
from lib_pivotal.core.ports import DiffusionModel, ImageSize
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.prompt_chunks import PromptChunker
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner

__all__ = ["ModelRun", "TrainedImage", "call_count", "run_images", "run_samples"]

_NAME_WEIGHT = 4.0
"""A vector of a name counts as much as this many other tokens, most of which are padding."""
_TOGETHER = 4
"""Images per call of the UNet."""
_CHANNELS = 4
"""Latent channels of all families."""
_STEPS = 20
"""Steps of a sample."""
_LEVELS = 8
"""Noise levels per image."""


@dataclass(frozen=True)
class TrainedImage:
    """A training image: latents on the CPU ``(C, h, w)``, caption and size."""

    latents: torch.Tensor
    caption: str
    size: ImageSize


class ModelRun:
    """Predicts with the names of a bundle, and says which tokens are names.

    Args:
        model: the borrowed model.
        embeddings: vectors of the bundle.
        recorder: records the inputs.
        tick: called before each call of the model.
        stopped: polled before each call; returns whether to stop.
    """

    def __init__(
        self,
        model: DiffusionModel,
        embeddings: EmbeddingWeights,
        recorder: InputRecorder,
        tick: Callable[[], None],
        stopped: Callable[[], bool],
    ) -> None:
        self.model = model
        self._recorder = recorder
        self._tick = tick
        self._stopped = stopped
        self._conditioner = TextConditioner(model, embeddings)
        self._chunker = PromptChunker(model.text_encoders[0], embeddings.layout)

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> None:
        """Run the text encoders.

        Args:
            captions: encoded one by one.

        Raises:
            Interrupted: the user stopped fusing.
        """
        self._wait()
        size = _square(self.model)
        # One at a time, so that the weights of tokens are those of the caption that is being encoded.
        for caption in captions:
            self._recorder.token_weights = self._weights([caption]).view(-1, CHUNK_TOKENS + 2)
            with self.model.autocast():
                self._conditioner.encode([caption], [size])

    @torch.no_grad()
    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, captions: Sequence[str], sizes: Sequence[ImageSize]
    ) -> torch.Tensor:
        """The UNet's output, fp32, shape ``(B, C, h, w)``.

        Args:
            noisy: shape ``(B, C, h, w)``, on the model's device.
            timesteps: int64, shape ``(B,)``, on the model's device.
            captions: one per item.
            sizes: one per item.

        Raises:
            Interrupted: the user stopped fusing.
        """
        self._wait()
        output = torch.empty_like(noisy)
        with self.model.autocast():
            for group in self._conditioner.encode(captions, sizes):
                rows = torch.tensor(group.indices, device=noisy.device)
                self._recorder.token_weights = self._weights([captions[index] for index in group.indices])
                output[rows] = self.model.predict(noisy[rows], timesteps[rows], group.conditioning).float()
        return output

    def _wait(self) -> None:
        """Report progress, and let the user stop.

        Raises:
            Interrupted: the user did.
        """
        self._tick()
        self.model.verify()
        self.model.poll_requests()
        if self._stopped():
            raise Interrupted("Fusing was stopped; no file was written.")

    def _weights(self, captions: Sequence[str]) -> torch.Tensor:
        """How much each token of some captions with equally many chunks counts, shape ``(B, tokens)``."""
        prompts, weights = [self._chunker.chunk(caption) for caption in captions], []
        chunks = max(len(prompt.ids) for prompt in prompts)
        for prompt in prompts:
            own = torch.ones(chunks, CHUNK_TOKENS + 2)
            own[list(prompt.rows), list(prompt.columns)] = _NAME_WEIGHT
            weights.append(own.flatten())
        return torch.stack(weights).to(self.model.device)


def call_count(item_count: int, *, has_images: bool) -> int:
    """How often the model is called for a number of images or samples."""
    return item_count * _LEVELS // _TOGETHER if has_images else -(-item_count // _TOGETHER) * _STEPS


def run_images(run: ModelRun, images: Sequence[TrainedImage]) -> None:
    """Predict the noise in training images, at noise levels spread over the whole schedule."""
    model = run.model
    alphas = model.alphas_cumprod.to(model.device)
    count = len(alphas)
    levels = [int((level + 0.5) * count / _LEVELS) for level in range(_LEVELS)]
    for number, image in enumerate(images):
        shape = tuple(image.latents.shape)
        noises = [item_noise(item_seed(0, number, level), shape, count)[0].noise for level in range(_LEVELS)]
        latents = image.latents.to(model.device)
        for first in range(0, _LEVELS, _TOGETHER):
            own = slice(first, first + _TOGETHER)
            timesteps = torch.tensor(levels[own], device=model.device)
            noise = torch.stack(noises[own]).to(model.device)
            alpha = alphas[timesteps].view(-1, 1, 1, 1)
            noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
            run.predict(noisy, timesteps, [image.caption] * _TOGETHER, [image.size] * _TOGETHER)


def run_samples(run: ModelRun, prompts: Sequence[str]) -> None:
    """Make images of prompts without guidance, up to the latents, and throw them away.

    Args:
        run: the model.
        prompts: one per image.

    Source: Song et al. 2020, equation 12 without noise, https://arxiv.org/abs/2010.02502; Gu et al. 2023, section 3.3,
        https://arxiv.org/abs/2305.18292, for taking the inputs from such samples.
    """
    model = run.model
    size = _square(model)
    side = size.target[0] // model.vae.scale_factor
    generator = torch.Generator().manual_seed(0)
    waiting = iter(prompts)
    while together := list(islice(waiting, _TOGETHER)):
        latents = torch.randn(len(together), _CHANNELS, side, side, generator=generator).to(model.device)
        for timestep, alpha, next_alpha in _levels(model.alphas_cumprod):
            timesteps = torch.full((len(together),), timestep, device=model.device)
            output = run.predict(latents, timesteps, together, [size] * len(together))
            latents = _denoised(latents, output, alpha, next_alpha, is_v_prediction=model.is_v_prediction)


def _levels(alphas_cumprod: torch.Tensor) -> Iterator[tuple[int, float, float]]:
    """Timestep, share of signal there, and share after the step."""
    timesteps = torch.linspace(len(alphas_cumprod) - 1, 0, _STEPS).round().long().tolist()
    alphas = [float(alphas_cumprod[timestep]) for timestep in timesteps]
    return zip(timesteps, alphas, [*alphas[1:], 1.0], strict=True)


def _denoised(
    latents: torch.Tensor, output: torch.Tensor, alpha: float, next_alpha: float, *, is_v_prediction: bool
) -> torch.Tensor:
    signal, sigma = alpha**0.5, (1 - alpha) ** 0.5
    noise = signal * output + sigma * latents if is_v_prediction else output
    clean = signal * latents - sigma * output if is_v_prediction else (latents - sigma * output) / signal
    mixed: torch.Tensor = next_alpha**0.5 * clean + (1 - next_alpha) ** 0.5 * noise
    return mixed


def _square(model: DiffusionModel) -> ImageSize:
    side = model.native_resolution
    return ImageSize((side, side), (0, 0), (side, side))
