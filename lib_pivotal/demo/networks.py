"""Shapes of the small model: SD1's block structure at a hundredth of its size."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

__all__ = ["LATENT_SCALE", "make_codec", "make_text_encoder", "make_unet", "text_config"]

LATENT_SCALE = 0.18215
"""SD1's factor; the codec's latents are folded so that it gives them unit spread."""

TEXT_WIDTH = 64
UNET_WIDTHS = (64, 64, 64, 128)
CODEC_WIDTHS = (64, 64, 64, 128)
"""At least two channels a normalisation group at full size: with one, flat colours cannot pass at all."""


@torch.no_grad()
def _start_plain(network: torch.nn.Module, reference: torch.nn.Module, every: int) -> None:
    """Start values with which so narrow a network learns flat colours.

    Residual branches begin at zero and the convolutions between levels as identities, so the network begins
    as a plain path from input to output. The output's normalisation has only two or three channels a group
    and would remove every flat colour; one channel of each group is therefore held at a constant, against
    which the others keep their level.

    Args:
        network: gets the start values.
        reference: convolution whose output reaches the output normalisation.
        every: channels a group of that normalisation.
    """
    branch_ends = ("conv2.weight", "conv2.bias", "to_out.0.weight", "to_out.0.bias", "proj_out.weight", "proj_out.bias")
    for name, parameter in network.named_parameters():
        if name.endswith(branch_ends):
            parameter.zero_()
        elif name.endswith("samplers.0.conv.weight"):
            parameter.mul_(0.2)
            torch.nn.init.dirac_(identity := torch.empty_like(parameter))
            parameter.add_(identity)
        elif name.endswith("conv_shortcut.weight"):
            torch.nn.init.orthogonal_(parameter)
    reference.weight[every - 1 :: every] = 0.0  # type: ignore[operator,index]
    reference.bias[every - 1 :: every] = 0.5  # type: ignore[operator,index]


def make_codec() -> AutoencoderKL:
    """A fresh VAE: 8 px a latent cell, 4 channels, 3.2 M parameters."""
    codec = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CODEC_WIDTHS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=64,
        scaling_factor=LATENT_SCALE,
    )
    _start_plain(codec.encoder, codec.encoder.down_blocks[2].downsamplers[0].conv, CODEC_WIDTHS[3] // 32)
    _start_plain(codec.decoder, codec.decoder.up_blocks[2].upsamplers[0].conv, CODEC_WIDTHS[0] // 32)
    return codec


def make_unet() -> UNet2DConditionModel:
    """A fresh UNet: four levels, two ResNet blocks each, attention on the first three, 6.6 M parameters."""
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=UNET_WIDTHS,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,  # in diffusers' SD1 configs this is the number of heads
        norm_num_groups=32,
    )
    _start_plain(unet, unet.up_blocks[3].resnets[2].conv_shortcut, UNET_WIDTHS[0] // 32)
    return unet


def text_config() -> dict[str, Any]:
    """The text encoder's configuration, as its ``config.json`` says it."""
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "attention_dropout": 0.0,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
        "hidden_act": "quick_gelu",
        "hidden_size": TEXT_WIDTH,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 4 * TEXT_WIDTH,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "projection_dim": TEXT_WIDTH,
        "vocab_size": 49408,
    }


def make_text_encoder() -> CLIPTextModel:
    """A fresh CLIP text model: width 64, three layers, the full CLIP vocabulary, 3.3 M parameters."""
    return CLIPTextModel(CLIPTextConfig(**text_config()))
