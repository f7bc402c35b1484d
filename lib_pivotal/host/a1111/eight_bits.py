"""Models whose weights the webui stores in 8 bits."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["EIGHT_BIT", "is_in_eight_bits"]

EIGHT_BIT = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))
"""The types of these weights; torch has them from 2.1."""


def is_in_eight_bits(network: Any) -> bool:
    """Whether any weight of a network is stored in 8 bits.

    Host: modules/sd_models.py, ``check_fp8``, A1111 1.8-1.10.1: with the setting FP8 weight, Linear layers and
        convolutions of UNet and text encoders are; norms, token embeddings and the VAE are not.
    """
    return any(parameter.dtype in EIGHT_BIT for parameter in network.parameters())
