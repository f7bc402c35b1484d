"""SD1.5 checkpoints with random weights that Forge and reForge accept: they recognize a model by some of its shapes.

Text encoder and VAE are of full size. Of the UNet they look at the first layer and at the width of the text; its deeper
levels are as narrow as the first one here, since a webui on a CPU needs many seconds per step for the full ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

__all__ = ["next_to_configuration", "recognized_checkpoints", "write_checkpoint"]

_WIDTHS = (320, 320, 320, 320)
_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768}


def recognized_checkpoints(folder: Path) -> list[Path]:
    """``random`` and ``other`` in a folder; the files themselves are kept in the user's cache for the next time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pivotal-tests"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed, name in enumerate(("random", "other")):
        kept = cache / f"recognized-sd1-{name}.safetensors"
        if not kept.exists():
            write_checkpoint(kept, seed=seed)
        paths.append(folder / f"{name}.safetensors")
        paths[-1].symlink_to(kept)
    return paths


def next_to_configuration(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint in an empty folder, with the ``.yaml`` that the headless host needs and these webuis do not."""
    import yaml

    from lib_pivotal.host.diffusers.standard import standard_config

    config = standard_config("sd1")
    config["model"]["params"]["unet_config"]["params"]["channel_mult"] = [width // _WIDTHS[0] for width in _WIDTHS]
    path = folder / checkpoint.name
    path.symlink_to(checkpoint.resolve())
    path.with_suffix(".yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def write_checkpoint(path: Path, *, seed: int = 0, widths: tuple[int, ...] = _WIDTHS) -> None:
    """Write a checkpoint in fp16, in the webui's layout.

    Args:
        path: the file.
        seed: of all weights.
        widths: of the UNet's levels; ``(320, 640, 1280, 1280)`` is the full size, of 2.1 GB.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    from lib_pivotal.host.diffusers.ldm_keys import to_ldm

    torch.manual_seed(seed)
    with torch.no_grad():
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, block_out_channels=widths).half()
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
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)
