"""Checkpoints with random weights that Forge and reForge accept: they recognize a model by some of its shapes.

Text encoders and VAE are of full size. Of the UNet they look at the first layer, at the width of the text, and for SDXL
at the numbers of transformer blocks; its deeper levels are as narrow as the first one here, since a webui on a CPU needs
many seconds per step for the full ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.families import FAMILIES, TextEncoderInfo

__all__ = ["next_to_configuration", "recognized_checkpoints", "write_checkpoint"]

_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
_SD2_FOR_REFORGE = {
    "first_stage_key": "jpg",
    "cond_stage_key": "txt",
    "conditioning_key": "crossattn",
    "image_size": 64,
    "channels": 4,
    "use_ema": False,
}
"""reForge makes the outer parts of its model from the configuration."""
_TEXT_LAYERS = {768: 12, 1024: 24, 1280: 32}
"""Width of a text encoder → number of its layers. A head is 64 wide in all of them."""


def recognized_checkpoints(folder: Path, families: Sequence[str] = ()) -> list[Path]:
    """``random`` and ``other`` (SD1) in a folder, and one checkpoint of each given family, named after it.

    The files themselves are kept in the user's cache for the next time.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pivotal-tests"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        ("random", "sd1-random", "sd1"),
        ("other", "sd1-other", "sd1"),
        *((name, name, name) for name in families),
    ]
    paths = []
    for seed, (name, kept_as, family) in enumerate(wanted):
        kept = cache / f"recognized-{kept_as}.safetensors"
        if not kept.exists():
            write_checkpoint(kept, family, seed=seed)
        paths.append(folder / f"{name}.safetensors")
        paths[-1].symlink_to(kept)
        if family == "sd2":
            # Forge takes every SD2 model for one that predicts noise, unless its configuration says something else, and
            # reForge finds that out with a UNet of full size.
            _write_configuration(paths[-1], family)
    return paths


def next_to_configuration(checkpoint: Path, family: str, folder: Path) -> Path:
    """The checkpoint in an empty folder, with the ``.yaml`` that the headless host needs to know the narrow levels."""
    path = folder / checkpoint.name
    path.symlink_to(checkpoint.resolve())
    _write_configuration(path, family)
    return path


def _write_configuration(checkpoint: Path, family: str) -> None:
    import yaml

    params = _configuration(family)
    model: dict[str, Any] = {"params": params}
    if family == "sd2":
        model["target"] = "ldm.models.diffusion.ddpm.LatentDiffusion"
        params |= _SD2_FOR_REFORGE
        params["cond_stage_config"]["target"] = "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder"
    text = yaml.safe_dump({"model": model})
    checkpoint.with_suffix(".yaml").write_text(text, encoding="utf-8")


def _configuration(family: str) -> dict[str, Any]:
    """The family's own parameters, with a UNet whose levels are all as wide as the first one; SD2 with velocity."""
    from lib_pivotal.host.diffusers.shapes import unet_params
    from lib_pivotal.host.diffusers.standard import standard_config

    params: dict[str, Any] = standard_config(family)["model"]["params"]
    shape = unet_params(params)
    shape["channel_mult"] = [1] * len(shape["channel_mult"])
    return {**params, "parameterization": "v"} if family == "sd2" else params


def write_checkpoint(path: Path, family: str, *, seed: int = 0) -> None:
    """Write a checkpoint in fp16, in the webui's layout.

    Args:
        path: the file.
        family: name of the model's family, see ``core.families``.
        seed: of all weights.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file

    from lib_pivotal.host.diffusers.ldm_keys import to_ldm
    from lib_pivotal.host.diffusers.shapes import unet_params, unet_shape

    torch.manual_seed(seed)
    shape = unet_shape(unet_params(_configuration(family)))
    with torch.no_grad():
        unet, vae = UNet2DConditionModel.from_config(shape).half(), AutoencoderKL(**_VAE).half()
        tensors = to_ldm(unet.state_dict(), vae.state_dict(), {}, family)
        for encoder in FAMILIES[family].text_encoders:
            tensors |= {encoder.checkpoint_prefix + name: value for name, value in _text_tensors(encoder).items()}
    for name, tensor in tensors.items():
        if not tensor.any() or (name.endswith("bias") and "norm" in name):
            # Layers that start at zero would hide everything behind them, and the webui's emphasis divides by the
            # mean of the encoded text.
            tensor.copy_(torch.randn_like(tensor, dtype=torch.float32) * 0.05)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)


def _text_tensors(encoder: TextEncoderInfo) -> dict[str, torch.Tensor]:
    """A text encoder of full size, under the names that it has in checkpoints."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from tests.headless.families import open_clip_names

    width = encoder.width
    shape = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": width}
    heads = {"num_attention_heads": width // 64, "num_hidden_layers": _TEXT_LAYERS[width]}
    kind = CLIPTextModelWithProjection if encoder.has_pooled_text else CLIPTextModel
    model = kind(CLIPTextConfig(**shape, **heads)).half()
    if encoder.is_open_clip:
        return open_clip_names(model)
    # Some versions of transformers leave out this level.
    return {f"text_model.{name.removeprefix('text_model.')}": value for name, value in model.state_dict().items()}
