"""A digest that changes when any weight of a VAE changes."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["weights_digest"]


def weights_digest(network: torch.nn.Module, scale: float) -> str:
    """sha256 of a VAE's state dict, names and bytes, and of its scale; the device of the tensors does not matter.

    Stored latents are looked up by it, so the same weights must give the same digest in every version and host.

    Args:
        network: the VAE, whose parameters and buffers are read.
        scale: factor from its latents to the UNet's, which is not part of the weights.
    """
    digest = hashlib.sha256(str(scale).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
