"""What Stable Diffusion 1, 2 and XL are, for checkpoints that come without a configuration."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["CLIP_L", "STANDARD_TOKENIZER", "fixed_schedule", "standard_config"]

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

_VAE: dict[str, Any] = {
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
}

_UNET: dict[str, Any] = {
    "image_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
}


def standard_config(family: str, *, is_v_prediction: bool = False) -> dict[str, Any]:
    """The parts of a family's configuration that are read here, in the checkpoint authors' own naming.

    Args:
        family: ``sd1``, ``sd2`` or ``sdxl``.
        is_v_prediction: what the model predicts, where the file says so.

    Source: the ``.yaml`` files that Stability AI published with the models.
    """
    if family == "sdxl":
        unet = {
            **_UNET,
            "image_size": 128,
            "attention_resolutions": [4, 2],
            "channel_mult": [1, 2, 4],
            "num_head_channels": 64,
            "use_linear_in_transformer": True,
            "transformer_depth": [1, 2, 10],
            "context_dim": 2048,
            "adm_in_channels": 2816,
            "num_classes": "sequential",
        }
        kind = "V" if is_v_prediction else "Eps"
        params: dict[str, Any] = {
            "scale_factor": 0.13025,
            "network_config": {"params": unet},
            "first_stage_config": _VAE,
            "denoiser_config": {"params": {"scaling_config": {"target": f"{kind}Scaling"}}},
            "conditioner_config": {
                "params": {"emb_models": [{"params": {"version": STANDARD_TOKENIZER, "layer_idx": 11}}, {"params": {}}]}
            },
        }
        return {"model": {"params": params}}
    two = family == "sd2"
    heads = {"num_head_channels": 64, "use_linear_in_transformer": True} if two else {"num_heads": 8}
    unet = {**_UNET, **heads, "transformer_depth": 1, "context_dim": 1024 if two else 768}
    params = {
        "linear_start": 0.00085,
        "linear_end": 0.012,
        "timesteps": 1000,
        "scale_factor": 0.18215,
        "parameterization": "v" if is_v_prediction else "eps",
        "unet_config": {"params": unet},
        "first_stage_config": _VAE,
        "cond_stage_config": {"params": {"layer": "penultimate"} if two else {"version": STANDARD_TOKENIZER}},
    }
    return {"model": {"params": params}}


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
