"""What Stable Diffusion 1 is, for checkpoints that come without a configuration."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["CLIP_L", "STANDARD_CONFIG", "STANDARD_TOKENIZER", "fixed_schedule"]

STANDARD_TOKENIZER = "openai/clip-vit-large-patch14"

CLIP_L: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": 768,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}

STANDARD_CONFIG: dict[str, Any] = {
    "model": {
        "params": {
            "linear_start": 0.00085,
            "linear_end": 0.012,
            "timesteps": 1000,
            "scale_factor": 0.18215,
            "unet_config": {
                "params": {
                    "image_size": 64,
                    "in_channels": 4,
                    "out_channels": 4,
                    "model_channels": 320,
                    "attention_resolutions": [4, 2, 1],
                    "num_res_blocks": 2,
                    "channel_mult": [1, 2, 4, 4],
                    "num_heads": 8,
                    "transformer_depth": 1,
                    "context_dim": 768,
                }
            },
            "first_stage_config": {
                "params": {
                    "embed_dim": 4,
                    "ddconfig": {
                        "z_channels": 4,
                        "resolution": 512,
                        "in_channels": 3,
                        "out_ch": 3,
                        "ch": 128,
                        "ch_mult": [1, 2, 4, 4],
                        "num_res_blocks": 2,
                        "attn_resolutions": [],
                    },
                }
            },
            "cond_stage_config": {"params": {"version": STANDARD_TOKENIZER}},
        }
    }
}
"""The parts of SD1's configuration that are read here, in the checkpoint authors' own naming."""


def fixed_schedule(start: float, end: float, count: int) -> torch.Tensor:
    """Share of signal variance left at each timestep, when the square roots of the betas rise evenly.

    Args:
        start: first beta, 0 … 1.
        end: last beta, 0 … 1.
        count: number of timesteps.

    Returns:
        fp32, shape ``(count,)``, falling.

    Source: Rombach et al. 2022, appendix, https://arxiv.org/abs/2112.10752.
    """
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()
