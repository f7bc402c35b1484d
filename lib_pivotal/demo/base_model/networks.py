"""The untrained networks of the small model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from lib_pivotal.demo.shapes import LATENT_SCALE, TEXT_WIDTH, UNET_WIDTHS, VAE_WIDTHS, text_config

__all__ = ["make_text_encoder", "make_unet", "make_vae"]

_CHANNELS_PER_GROUP = 2
"""Of the UNet's normalizations at full size; see ``shapes.UNET_WIDTHS``."""


@torch.no_grad()
def _start_plain(network: torch.nn.Module, reference: torch.nn.Module, every: int) -> None:
    """Initial values with which so narrow a network learns flat colors.

    Residual branches begin at zero and the convolutions between levels as identities, so at first the network passes
    its input straight through. The output's normalization has only two or three channels per group and would remove
    flat colors completely. Therefore one channel of each group is held constant, so that the others keep their level
    relative to it.

    Args:
        network: its parameters are set.
        reference: convolution whose output reaches the output normalization.
        every: channels per group of that normalization.
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


def make_vae() -> AutoencoderKL:
    """An untrained VAE: 8 px per latent cell, 4 channels, 3.2 M parameters."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=VAE_WIDTHS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=64,
        scaling_factor=LATENT_SCALE,
    )
    _start_plain(vae.encoder, vae.encoder.down_blocks[2].downsamplers[0].conv, VAE_WIDTHS[3] // 32)
    _start_plain(vae.decoder, vae.decoder.up_blocks[2].upsamplers[0].conv, VAE_WIDTHS[0] // 32)
    return vae


def make_unet(widths: Sequence[int] = UNET_WIDTHS, text_width: int = TEXT_WIDTH) -> UNet2DConditionModel:
    """An untrained UNet: four levels of two ResNet blocks, attention on the first three, 6.6 M parameters.

    Args:
        widths: channels of each level.
        text_width: features of a token.
    """
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=tuple(widths),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=text_width,
        attention_head_dim=8,  # in diffusers' SD1 configs this is the number of heads
        norm_num_groups=widths[0] // _CHANNELS_PER_GROUP,
    )
    _start_plain(unet, unet.up_blocks[3].resnets[2].conv_shortcut, _CHANNELS_PER_GROUP)
    return unet


def make_text_encoder(width: int = TEXT_WIDTH) -> CLIPTextModel:
    """An untrained CLIP text model: three layers, the full CLIP vocabulary, 3.3 M parameters at its usual width."""
    return CLIPTextModel(CLIPTextConfig(**text_config(width)))
