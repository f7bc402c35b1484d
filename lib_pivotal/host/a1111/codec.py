"""The webui's VAE as a latent codec."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.resting import Resting

__all__ = ["VaeCodec"]


class VaeCodec:
    """Encodes pictures with the loaded VAE; implements ``core.ports.LatentCodec``.

    Args:
        model: the webui's model.
        device: where the VAE works.
        rests_on_cpu: keep it in main memory between uses (the webui's own training option).
        in_fp32: encode in fp32 whatever the VAE is stored in; else only where its own type overflows.
        heed: called before each batch, so that a stop is noticed while latents are made.
    """

    scale_factor = 8

    def __init__(
        self,
        model: Any,
        device: torch.device,
        *,
        rests_on_cpu: bool,
        in_fp32: bool = False,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        self._vae = model.first_stage_model
        self._scale = float(model.scale_factor)
        self._device = device
        self._in_fp32 = in_fp32
        self._place = Resting([self._vae], device)
        self._heed = heed
        self._identity = ""
        if rests_on_cpu:
            self.rest()

    def rest(self) -> None:
        """From now on be in main memory between uses; the lease puts it back at the end."""
        self._place.rest()

    def identity(self) -> str:
        """Hex digest of the VAE's weights."""
        if not self._identity:
            digest = hashlib.sha256(str(self._scale).encode())
            for name, tensor in sorted(self._vae.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            self._identity = digest.hexdigest()
        return self._identity

    def awake(self) -> AbstractContextManager[None]:
        """Within the context the VAE is on the device."""
        return self._place.at_hand()

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the posterior, scaled for the UNet.

        Args:
            pixels: fp32, shape ``(B, 3, H, W)``, -1 … 1, any device.

        Returns:
            Two fp32 tensors ``(B, C, H/8, W/8)`` on the CPU.

        Raises:
            HostError: the VAE gives values that are no numbers, also in fp32.
        """
        self._heed()
        with self.awake():
            dtype = next(self._vae.parameters()).dtype
            moments = None if self._in_fp32 else self._posterior(pixels)
            if moments is None or not bool(torch.isfinite(moments[0]).all()):
                # Widening and narrowing back changes no bit of the weights.
                self._vae.float()
                try:
                    moments = self._posterior(pixels)
                finally:
                    self._vae.to(dtype)
        if not bool(torch.isfinite(moments[0]).all()):
            raise HostError(
                "The VAE of this checkpoint gives values that are no numbers.", hint="Select another VAE in the webui."
            )
        return moments

    def _posterior(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled mean and standard deviation, fp32 on the CPU.

        Host: ldm/models/autoencoder.py, ``AutoencoderKL.encode``, A1111 1.6.1-1.10.1: encoder, then ``quant_conv``
        gives mean and log variance; the latter is clamped to -30 … 20.
        """
        weight = next(self._vae.parameters())
        moments = self._vae.quant_conv(self._vae.encoder(pixels.to(weight)))
        mean, log_variance = moments.float().chunk(2, dim=1)
        deviation = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
        return (mean * self._scale).cpu(), (deviation * self._scale).cpu()
