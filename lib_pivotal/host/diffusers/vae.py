"""The VAE of a headless model, in both directions."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.data.weights_digest import weights_digest
from lib_pivotal.core.ports import Offloading

__all__ = ["DiffusersVae"]


class DiffusersVae:
    """Encodes and decodes images; implements ``core.ports.VAE``.

    Args:
        vae: diffusers' AutoencoderKL, in fp32: it is used rarely, and some overflow in fp16.
        scale: factor from its latents to the UNet's.
        device: where it works.
        offloading: brings the VAE to the device for each use.
    """

    def __init__(self, vae: Any, scale: float, device: torch.device, offloading: Offloading) -> None:
        self._vae = vae
        self._scale = scale
        self._device = device
        self._offloading = offloading
        self._identity = ""
        self.scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.channels = int(vae.config.latent_channels)

    def identity(self) -> str:
        """Hex digest of the weights, computed once."""
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
        """
        with self._offloading.on_device("vae"):
            posterior = self._vae.encode(pixels.to(self._device, torch.float32)).latent_dist
        return (posterior.mean * self._scale).cpu(), (posterior.std * self._scale).cpu()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images from latents.

        Args:
            latents: shape ``(B, C, h, w)``, scaled for the UNet.

        Returns:
            fp32 on the CPU, shape ``(B, 3, 8h, 8w)``, 0 … 1.
        """
        with self._offloading.on_device("vae"):
            pixels: torch.Tensor = self._vae.decode(latents.to(self._device, torch.float32) / self._scale).sample
        return (pixels / 2 + 0.5).clamp(0, 1).cpu()
