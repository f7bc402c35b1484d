"""Full-size models with random weights, and images to train them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.families import FAMILIES, TextEncoderInfo
from lib_pivotal.demo.assets import materialize
from lib_pivotal.host.diffusers.checkpoint import load_networks
from lib_pivotal.host.diffusers.clip_tokenizer import clip_tokenizer
from lib_pivotal.host.diffusers.networks import Networks
from lib_pivotal.host.diffusers.shapes import unet_params, unet_shape
from lib_pivotal.host.diffusers.standard import CLIP_L, fixed_schedule, standard_config
from lib_pivotal.host.diffusers.text import TextPart

__all__ = ["NAMES", "RANK", "random_networks", "random_vae", "small_networks", "training_config", "write_images"]

RANK = 16
NAMES = ("zogling", "mibble")
_IMAGE_COUNT = 8

_VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
}
_CLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
    "pad_token_id": 0,
}


def random_networks(family: str, device: torch.device) -> Networks:
    """A model of SD1's or SDXL's size; its weights are what a new network starts with.

    Args:
        family: ``sd1`` or ``sdxl``.
        device: where to make it; on the CPU it takes a minute.
    """
    params = standard_config(family)["model"]["params"]
    torch.manual_seed(0)
    with device:
        unet = diffusers.UNet2DConditionModel.from_config(unet_shape(unet_params(params)))
        vae = random_vae()
        models = [_text_encoder(info) for info in FAMILIES[family].text_encoders]
    for part in (unet, *models):
        part.eval().requires_grad_(False)
    tokenizer = clip_tokenizer(params, Path(f"random-{family}.safetensors"))
    texts = [
        TextPart(info, model, tokenizer, info.layer, FAMILIES[family].allows_clip_skip)
        for info, model in zip(FAMILIES[family].text_encoders, models, strict=True)
    ]
    return Networks(
        source=Path(f"random-{family}"),
        family=family,
        unet=unet,
        vae=vae,
        texts=tuple(texts),
        scale=float(params["scale_factor"]),
        alphas_cumprod=fixed_schedule(0.00085, 0.012, 1000),
        is_v_prediction=False,
        native_resolution=FAMILIES[family].native_resolution,
    )


def random_vae() -> Any:
    """The VAE of SD1 and SDXL with random weights, on torch's default device."""
    return diffusers.AutoencoderKL.from_config(_VAE).eval().requires_grad_(False)


def _text_encoder(info: TextEncoderInfo) -> Any:
    shape = CLIP_L if not info.is_open_clip else {**CLIP_L, **_CLIP_G}
    model_class = transformers.CLIPTextModelWithProjection if info.has_pooled_text else transformers.CLIPTextModel
    return model_class(transformers.CLIPTextConfig(**shape))


def small_networks(folder: Path) -> Networks:
    """The embedded small model, for a trial of this program without a GPU."""
    return load_networks(materialize(folder).a)


def write_images(folder: Path, side: int) -> Path:
    """Write images of noise with captions.

    Args:
        folder: is created.
        side: of the images, in px.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(_IMAGE_COUNT):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)
        caption = f"{NAMES[number % len(NAMES)]}, standing in a garden, evening light, number {number}"
        (folder / f"{number}.txt").write_text(caption, encoding="utf-8")
    return folder


def training_config(data: Path, side: int, batch_size: int, memory: str, *, graphs: bool = False) -> TrainConfig:
    """Two names and a LoRA of rank 16 on attention and feed-forward layers, all trained from the first step."""
    return TrainConfig(
        concepts=tuple(Concept(name, "circle") for name in NAMES),
        data_folder=str(data),
        resolution=side,
        batch_size=batch_size,
        rank=RANK,
        steps=100_000,
        lora_start=0.0,
        sample_every=0,
        memory=memory,
        cuda_graphs=graphs,
        output_name="bench",
    )
