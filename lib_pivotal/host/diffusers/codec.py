"""The VAE of a headless model, in both directions."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from lib_pivotal.core.resting import Resting

__all__ = ["VaeCodec"]


class VaeCodec:
    """Encodes and decodes pictures; implements ``core.ports.LatentCodec``.

    Args:
        vae: diffusers' AutoencoderKL, fp32: it is used rarely, and in fp16 some overflow.
        scale: factor from its latents to the UNet's.
        device: where it works.
    """

    def __init__(self, vae: Any, scale: float, device: torch.device) -> None:
        self._vae = vae
        self._scale = scale
        self._device = device
        self._identity = ""
        self._place = Resting([vae], device)
        self.scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.channels = int(vae.config.latent_channels)

    def rest(self) -> None:
        """From now on be in main memory between uses."""
        self._place.rest()

    def identity(self) -> str:
        """Hex digest of the weights, made once."""
        if not self._identity:
            digest = hashlib.sha256(str(self._scale).encode())
            for name, tensor in sorted(self._vae.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            self._identity = digest.hexdigest()
        return self._identity

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the posterior, scaled for the UNet.

        Args:
            pixels: fp32, shape ``(B, 3, H, W)``, -1 … 1, any device.

        Returns:
            Two fp32 tensors ``(B, C, H/8, W/8)`` on the CPU.
        """
        with self._place.at_hand():
            posterior = self._vae.encode(pixels.to(self._device, torch.float32)).latent_dist
        return (posterior.mean * self._scale).cpu(), (posterior.std * self._scale).cpu()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures of latents.

        Args:
            latents: shape ``(B, C, h, w)``, scaled for the UNet.

        Returns:
            fp32 on the CPU, shape ``(B, 3, 8h, 8w)``, 0 … 1.
        """
        with self._place.at_hand():
            pixels: torch.Tensor = self._vae.decode(latents.to(self._device, torch.float32) / self._scale).sample
        return (pixels / 2 + 0.5).clamp(0, 1).cpu()
