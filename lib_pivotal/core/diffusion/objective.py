"""Noise levels, training targets and loss weights, from the model's own schedule in fp32."""

from __future__ import annotations

import torch

from lib_pivotal.core.errors import ConfigError, Problem

__all__ = [
    "Objective",
    "debiased_weight",
    "min_snr_weight",
    "signal_to_noise",
    "small_image_gamma",
    "zero_terminal",
]


def signal_to_noise(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio of every timestep.

    Args:
        alphas_cumprod: fp32, shape ``(T,)``, 0 … 1.

    Returns:
        Shape ``(T,)``, dimensionless.
    """
    return alphas_cumprod / (1.0 - alphas_cumprod)


def min_snr_weight(snr: torch.Tensor, gamma: float, *, is_v_prediction: bool) -> torch.Tensor:
    """Per-sample loss weight that caps the influence of easy timesteps.

    Args:
        snr: signal-to-noise ratio, any shape, ≥ 0.
        gamma: the cap, > 0; 5 in the paper.
        is_v_prediction: divide by ``snr + 1`` instead of ``snr``.

    Returns:
        Weights, same shape.

    Raises:
        ConfigError: if ``gamma`` is not positive.

    Source: Hang et al. 2023, eq. 5, https://arxiv.org/abs/2303.09556
    """
    if gamma <= 0:
        raise ConfigError([Problem("min_snr_gamma", "error", f"{gamma} is not positive.", "Use 5, or 0 for none.")])
    capped = snr.clamp(max=gamma)
    return capped / (snr + 1.0) if is_v_prediction else torch.where(snr > 0, capped / snr.clamp(min=1e-12), 1.0)


_USUAL_RESOLUTION = 512
_GAMMA_EXPONENT = 4 / 3


def small_image_gamma(gamma: float, native_resolution: int) -> float:
    """The cap for :func:`min_snr_weight` on a model that draws small images, where 5 counts visible images too much.

    Args:
        gamma: the cap at 512 px and more.
        native_resolution: side length in px that the model was trained for.

    Returns:
        ``gamma`` for models of 512 px and more, and a lower cap for smaller images. The exponent was measured on the
        embedded model (``docs/benchmarks.md``), whose images are decided at high noise levels.
    """
    return float(gamma * min(1.0, native_resolution / _USUAL_RESOLUTION) ** _GAMMA_EXPONENT)


_SNR_RANGE = (1e-3, 1000.0)
"""Range of the SNR for the debiased weight, which would otherwise vanish for nearly clean images, and be thousands for
the last timestep of a schedule with zero terminal SNR."""


def debiased_weight(snr: torch.Tensor, *, is_v_prediction: bool) -> torch.Tensor:
    """Per-sample loss weight 1/√SNR; for velocity 1/(SNR + 1), as in kohya's scripts, which weighs the error in x₀.

    Args:
        snr: signal-to-noise ratio, any shape, ≥ 0.
        is_v_prediction: whether the model predicts velocity.

    Returns:
        Weights, same shape.

    Source: Yu et al. 2023, https://arxiv.org/abs/2310.08442
    """
    low, high = _SNR_RANGE
    capped = snr.clamp(max=high)
    return 1.0 / (capped + 1.0) if is_v_prediction else capped.clamp(min=low).rsqrt()


def zero_terminal(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """Shift and scale a schedule so that the last timestep is pure noise (zero terminal SNR).

    Args:
        alphas_cumprod: shape ``(T,)``, decreasing, 0 … 1.

    Returns:
        fp32, shape ``(T,)``; the first value is unchanged, the last one is almost but not exactly 0, as in the webui.

    Source: Lin et al. 2023, algorithm 1, https://arxiv.org/abs/2305.08891
    Host: modules/sd_models.py, ``rescale_zero_terminal_snr_abar``, A1111 1.8-1.10.1.
    """
    roots = alphas_cumprod.double().sqrt()
    first, last = roots[0], roots[-1]
    moved = ((roots - last) * first / (first - last)) ** 2
    moved[-1] = 4.8973451890853435e-08
    return moved.float()


class Objective:
    """Turns clean latents into noisy ones and a prediction into a loss.

    Args:
        alphas_cumprod: fp32, shape ``(T,)``, of the schedule the model is used with.
        is_v_prediction: whether the model predicts velocity instead of noise.
        weighting: ``min_snr``, ``debiased`` or ``none``.
        min_snr_gamma: cap of :func:`min_snr_weight`; 0 weights all timesteps equally.
        huber_c: from about this error of a cell on, the loss grows linearly (pseudo-Huber); 0 squares all errors.
        device: device of the batches.
    """

    def __init__(
        self,
        alphas_cumprod: torch.Tensor,
        *,
        is_v_prediction: bool,
        weighting: str = "min_snr",
        min_snr_gamma: float,
        huber_c: float = 0.0,
        device: torch.device,
    ) -> None:
        alphas = alphas_cumprod.float().cpu()
        snr = signal_to_noise(alphas)
        weights = torch.ones_like(snr)
        if weighting == "debiased":
            weights = debiased_weight(snr, is_v_prediction=is_v_prediction)
        elif weighting == "min_snr" and min_snr_gamma > 0:
            weights = min_snr_weight(snr, min_snr_gamma, is_v_prediction=is_v_prediction)
        self.timestep_count = len(alphas)
        self._signal = alphas.sqrt().to(device)
        self._noise = (1.0 - alphas).sqrt().to(device)
        self._weights = weights.to(device)
        self._is_v_prediction = is_v_prediction
        self._huber_c = huber_c

    def noisy(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Latents ``(B, C, h, w)`` mixed with noise of the same shape for int64 timesteps ``(B,)``."""
        signal, sigma = self._levels(timesteps)
        return signal * latents + sigma * noise

    def losses(
        self,
        prediction: torch.Tensor,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        mask: torch.Tensor | None = None,
        target: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean squared (or pseudo-Huber) error of each item, weighted by its timestep.

        Args:
            prediction: the model's output, shape ``(B, C, h, w)``.
            latents: clean latents, same shape.
            noise: the noise that was mixed in, same shape.
            timesteps: int64, shape ``(B,)``.
            mask: weight of each latent cell, ≥ 0, shape ``(B, 1, h, w)``; only relative values matter. None weights all
                cells equally.
            target: what the model should predict, same shape as ``prediction``; None for the noise or velocity.

        Returns:
            fp32, shape ``(B,)``, in the order of the batch.

        Source: velocity: Salimans & Ho 2022, section 4, https://arxiv.org/abs/2202.00512; pseudo-Huber: Charbonnier et
            al. 1997, https://doi.org/10.1109/83.551699
        """
        if target is None:
            target = self._target(latents, noise, timesteps)
        error = (prediction.float() - target).pow(2)
        if self._huber_c:
            # Small errors count as their squares: 2c(√(d² + c²) - c) ≈ d².
            error = 2 * self._huber_c * ((error + self._huber_c**2).sqrt() - self._huber_c)
        means = error.mean(dim=(1, 2, 3)) if mask is None else _masked_means(error, mask)
        return means * self._weights[timesteps]

    def _target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        if not self._is_v_prediction:
            return noise
        signal, sigma = self._levels(timesteps)
        return signal * noise - sigma * latents

    def _levels(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (-1, 1, 1, 1)
        return self._signal[timesteps].view(shape), self._noise[timesteps].view(shape)


def _masked_means(error: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of each item's errors ``(B, C, h, w)``, weighted by its mask ``(B, 1, h, w)``; 0 if nothing counts."""
    # As a ratio of means, a mask of ones gives bit for bit what no mask gives.
    weight = mask.mean(dim=(1, 2, 3))
    return (error * mask).mean(dim=(1, 2, 3)) / weight.clamp(min=1e-8)
