"""What Stable Diffusion 1, 2 and XL are, for checkpoints that come without a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

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


def standard_config(family: str) -> dict[str, Any]:
    """The parts of a family's configuration that are read here, named as in the checkpoint authors' own files.

    Args:
        family: name of a family, see ``core.families``.

    Source: the ``.yaml`` files that Stability AI published with the models.
    """
    path = Path(__file__).parent / "standard_configs" / f"{family}.yaml"
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def fixed_schedule(start: float, end: float, count: int) -> torch.Tensor:
    """alphas_cumprod of a schedule in which the square roots of the betas rise evenly ("scaled linear").

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
