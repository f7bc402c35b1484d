"""A small UNet from the kinds of blocks that the webui's UNets have, with their names and attributes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from lib_pivotal.core.lora.naming import role_of
from lib_pivotal.core.ports import LoraTarget

WIDTH, TEXT = 32, 24


class GroupNorm32(nn.GroupNorm):
    """In full precision whatever the input has."""

    def forward(self, x):
        return super().forward(x.float()).type(x.dtype)


class GEGLU(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * functional.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x):
        return self.net(x)


class CrossAttention(nn.Module):
    def __init__(self, width, context):
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x, context=None):
        context = x if context is None else context
        heads = (
            layer(source).unflatten(-1, (4, -1)).transpose(1, 2)
            for layer, source in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        found = functional.scaled_dot_product_attention(*heads)
        return self.to_out(found.transpose(1, 2).flatten(2))


class BasicTransformerBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn1 = CrossAttention(WIDTH, WIDTH)
        self.attn2 = CrossAttention(WIDTH, TEXT)
        self.ff = FeedForward(WIDTH)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, x, context):
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class ResBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_layers = nn.Sequential(GroupNorm32(8, WIDTH), nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(8, WIDTH))
        self.out_layers = nn.Sequential(GroupNorm32(8, WIDTH), nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1))

    def forward(self, x, times):
        hidden = self.in_layers(x) + self.emb_layers(times)[:, :, None, None]
        return self.out_layers(hidden) + x


class SmallUNet(nn.Module):
    """Two ResNet blocks and transformer blocks, down to half the side and up again."""

    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(4, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList([ResBlock(), ResBlock()])
        self.norms = nn.ModuleList(nn.GroupNorm(8, WIDTH, eps=1e-6) for _ in range(2))
        self.proj_in = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(2))
        self.transformers = nn.ModuleList([BasicTransformerBlock(), BasicTransformerBlock()])
        self.down = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.out = nn.Sequential(GroupNorm32(8, WIDTH), nn.SiLU(), nn.Conv2d(WIDTH, 4, 3, padding=1))
        self.run = lambda block, *inputs: block(*inputs)

    def forward(self, x, timesteps, context):
        waves = timesteps[:, None] * torch.exp(-torch.arange(4.0))
        times = torch.cat([waves.sin(), waves.cos()], 1)
        skipped = self.conv_in(x)
        h = self._stage(0, skipped, times, context)
        h = self._stage(1, self.down(h), times, context)
        return self.out(functional.interpolate(h, scale_factor=2.0) + skipped)

    def _stage(self, number, h, times, context):
        h = self.run(self.blocks[number], h, times)
        tokens = self.proj_in[number](self.norms[number](h)).flatten(2).transpose(1, 2)
        tokens = self.run(self.transformers[number], tokens, context)
        return h + tokens.transpose(1, 2).unflatten(2, h.shape[2:])


def small_unet(seed: int = 0) -> SmallUNet:
    torch.manual_seed(seed)
    unet = SmallUNet().eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return unet


def layers_with_lora(unet: SmallUNet) -> list[LoraTarget]:
    """Attention, feed-forward and convolutions."""
    targets = []
    for path, module in unet.named_modules():
        if hasattr(module, "in_features") or isinstance(module, nn.Conv2d):
            role = role_of(f"x.{path}.", module.weight.shape[-1] if module.weight.ndim == 4 else 1)
            targets.append(LoraTarget("lora_unet_" + path.replace(".", "_"), "unet", role, module))
    return targets
