"""Shapes of the small model: SD1's block structure at a hundredth of its size."""

from __future__ import annotations

from typing import Any

__all__ = ["LATENT_SCALE", "TEXT_WIDTH", "UNET_WIDTHS", "VAE_WIDTHS", "text_config"]

LATENT_SCALE = 0.18215
"""SD1's factor; the VAE's latents are scaled so that this factor gives them a standard deviation of 1."""

TEXT_WIDTH = 64
UNET_WIDTHS = (64, 64, 64, 128)
VAE_WIDTHS = (64, 64, 64, 128)
"""At least two channels per normalization group at full size: with one, flat colors would be lost completely."""


def text_config(width: int = TEXT_WIDTH) -> dict[str, Any]:
    """The text encoder's configuration, as in its ``config.json``."""
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "attention_dropout": 0.0,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
        "hidden_act": "quick_gelu",
        "hidden_size": width,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 4 * width,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "projection_dim": width,
        "vocab_size": 49408,
    }
