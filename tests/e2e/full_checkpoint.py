"""A full-size SD1.5 checkpoint with random weights in fp16: Forge and reForge recognize models by their shapes."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["write_full_checkpoint"]

_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768}


def write_full_checkpoint(path: Path, factor: float = 1.0) -> None:
    """Write ``path`` (2.1 GB, about 20 s), or do nothing if it is there.

    Args:
        path: file in the webui's layout.
        factor: of all weights, for a second checkpoint that differs from the first.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    from lib_pivotal.host.diffusers.ldm_keys import to_ldm

    if path.exists():
        return
    torch.manual_seed(0)
    with torch.no_grad():
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8).half()
        vae, text = AutoencoderKL(**_VAE).half(), CLIPTextModel(CLIPTextConfig(**_TEXT)).half()
    # Some versions of transformers leave out this level.
    named = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in text.state_dict().items()}
    tensors = to_ldm(unet.state_dict(), vae.state_dict(), named, "sd1")
    for name, tensor in tensors.items():
        if not tensor.any() or (name.endswith("bias") and "norm" in name):
            # Layers that start at zero would hide everything behind them, and the webui's emphasis divides by the
            # mean of the encoded text.
            tensor.copy_(torch.randn_like(tensor, dtype=torch.float32) * 0.05)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    save_file({name: (tensor * factor).contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)
