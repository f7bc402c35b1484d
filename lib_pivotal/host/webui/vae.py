"""The webui's VAE."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.data.weights_digest import weights_digest
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.ports import Offloading

__all__ = ["WebuiVae"]


class WebuiVae:
    """Encodes images with the loaded VAE; implements ``core.ports.VAE``.

    Args:
        vae: the webui's VAE, which has ``encoder`` and ``quant_conv``.
        scale: factor from its latents to the UNet's.
        offloading: brings the VAE to the device for each use.
        in_fp32: always encode in fp32; otherwise only where the VAE's own type overflows.
    """

    scale_factor = 8

    def __init__(self, vae: Any, scale: float, offloading: Offloading, *, in_fp32: bool = False) -> None:
        self._vae = vae
        self._scale = float(scale)
        self._in_fp32 = in_fp32
        self._offloading = offloading
        self._identity = ""

    def identity(self) -> str:
        """Hex digest of the VAE's weights, computed once."""
        if not self._identity:
            self._identity = weights_digest(self._vae, self._scale)
        return self._identity

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the posterior, scaled for the UNet.

        Args:
            pixels: fp32, shape ``(B, 3, H, W)``, -1 … 1, any device.

        Returns:
            Two fp32 tensors ``(B, C, H/8, W/8)`` on the CPU.

        Raises:
            HostError: the VAE produces NaN or infinite values, in fp32 too.
        """
        with self._offloading.on_device("vae"):
            dtype = next(self._vae.parameters()).dtype
            # The 8 bits of bf16 would be the precision of all stored latents.
            moments = None if self._in_fp32 or dtype == torch.bfloat16 else self._posterior(pixels)
            if moments is None or not bool(torch.isfinite(moments[0]).all()):
                # Casting to fp32 and back changes no bit of the weights.
                try:
                    self._vae.float()
                    moments = self._posterior(pixels)
                finally:
                    self._vae.to(dtype)
        if not bool(torch.isfinite(moments[0]).all()):
            raise HostError("The VAE of this checkpoint produces NaNs.", hint="Select another VAE in the webui.")
        return moments

    def _posterior(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled mean and standard deviation, fp32 on the CPU.

        Host: ldm/models/autoencoder.py, ``AutoencoderKL.encode``, A1111 1.6.1-1.10.1, and backend/nn/vae.py,
            ``IntegratedAutoencoderKL.encode``, Forge: encoder, then ``quant_conv`` gives mean and log variance; the
            latter is clamped to -30 … 20.
        """
        weight = next(self._vae.parameters())
        moments = self._vae.quant_conv(self._vae.encoder(pixels.to(weight)))
        mean, log_variance = moments.float().chunk(2, dim=1)
        std = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
        return (mean * self._scale).cpu(), (std * self._scale).cpu()
