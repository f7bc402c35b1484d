"""A toy diffusion model with about 20,000 parameters that implements the ports of the engine."""

from __future__ import annotations

import contextlib
import functools
import io
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.lora.naming import role_of
from lib_pivotal.core.ports import EncodedText, LoraTarget

START, END, COMMA = 1, 2, 3


class ToyEncoder:
    """Words and punctuation are hashed to 200 ids; one causal attention layer; width 16."""

    name = "clip_l"
    width = 16
    start_id, end_id, pad_id = START, END, END

    def __init__(self) -> None:
        torch.default_generator.manual_seed(0)
        self.table = torch.nn.Embedding(200, self.width)
        self.layer = torch.nn.TransformerEncoderLayer(self.width, 2, 32, dropout=0.0, batch_first=True)
        self.table.requires_grad_(False)
        self.layer.requires_grad_(False).eval()
        self.module = torch.nn.ModuleList([self.table, self.layer])
        self.mask = torch.nn.Transformer.generate_square_subsequent_mask(77)

    def tokenize(self, text: str) -> list[int]:
        pieces = re.findall(r"[a-z]+|[0-9]|[^\s\w]|_", text.lower())
        return [COMMA if piece == "," else 10 + sum(map(ord, piece)) * 7 % 190 for piece in pieces]

    def token_vectors(self) -> torch.Tensor:
        return self.table.weight

    def encode(self, ids, rows, columns, vectors) -> EncodedText:
        assert ids.shape[1] == 77
        embedded = self.table(ids).index_put((rows, columns), vectors)
        return EncodedText(self.layer(embedded, src_mask=self.mask.to(ids.device)))


class ToyVae:
    """Average color of 8×8 px plus brightness contrast; scaled to about unit spread."""

    scale_factor = 8

    def identity(self) -> str:
        return "toy"

    def encode(self, pixels):
        colors = torch.nn.functional.avg_pool2d(pixels, 8)
        mean = torch.cat([colors, colors.mean(1, keepdim=True)], 1) * 1.5
        return mean, torch.full_like(mean, 0.05)


class _Attention(torch.nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.to_q = torch.nn.Linear(width, width, bias=False)
        self.to_k = torch.nn.Linear(context, width, bias=False)
        self.to_v = torch.nn.Linear(context, width, bias=False)

    def forward(self, x, context):
        return torch.nn.functional.scaled_dot_product_attention(self.to_q(x), self.to_k(context), self.to_v(context))


class ToyUNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = 32
        self.conv_in = torch.nn.Conv2d(4, width, 3, padding=1)
        self.time = torch.nn.Linear(8, width)
        self.attn1 = _Attention(width, width)
        self.attn2 = _Attention(width, ToyEncoder.width)
        self.conv_out = torch.nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, x, timesteps, context):
        waves = timesteps[:, None] * torch.exp(-torch.arange(4, device=x.device))[None]
        h = self.conv_in(x) + self.time(torch.cat([waves.sin(), waves.cos()], 1))[:, :, None, None]
        tokens = h.flatten(2).transpose(1, 2)
        tokens = tokens + self.attn1(tokens, tokens)
        tokens = tokens + self.attn2(tokens, context)
        return self.conv_out(torch.nn.functional.silu(tokens.transpose(1, 2).view_as(h)))


class ToyOffloading:
    """Moves nothing, but remembers which parts were offloaded."""

    def __init__(self) -> None:
        self.offloaded: set[str] = set()

    def is_offloaded(self, part):
        return part in self.offloaded

    def weight_bytes(self, part):
        return 0

    def offload(self, part):
        self.offloaded.add(part)

    def keep_on_device(self, part):
        self.offloaded.discard(part)

    def on_device(self, part):
        return contextlib.nullcontext()


class ToyModel:
    family = "sd1"
    is_v_prediction = False
    needs_loss_scaling = False
    must_recompute = False
    device = torch.device("cpu")
    model_name = "toy"
    model_hash = "toyhash"
    native_resolution = 64

    def __init__(self) -> None:
        torch.default_generator.manual_seed(0)
        self.unet = ToyUNet().eval().requires_grad_(False)
        self.text_encoders = [ToyEncoder()]
        self.vae = ToyVae()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, 0).float()
        self.broken_at: int | None = None
        self.predictions = 0
        self.polls = 0
        self.offloading = ToyOffloading()
        self.checkpointed: list[bool] = []

    def lora_targets(self):
        targets = []
        for path, module in self.unet.named_modules():
            if hasattr(module, "weight"):
                kernel = module.weight.shape[-1] if module.weight.ndim == 4 else 1
                targets.append(
                    LoraTarget("lora_unet_" + path.replace(".", "_"), "unet", role_of(f"x.{path}.", kernel), module)
                )
        for name in ("linear1", "linear2"):
            targets.append(
                LoraTarget(f"lora_te_{name}", "clip_l", "feed_forward", getattr(self.text_encoders[0].layer, name))
            )
        return targets

    def condition(self, texts, chunk_count, sizes, is_empty):
        hidden = texts[0].hidden
        return hidden.reshape(len(sizes), chunk_count * 77, -1)

    def predict(self, noisy, timesteps, condition):
        self.predictions += 1
        if self.broken_at is not None and self.predictions >= self.broken_at:
            return self.unet(noisy, timesteps, condition) * float("nan")
        return self.unet(noisy, timesteps, condition)

    def autocast(self):
        return contextlib.nullcontext()

    def checkpointing(self, *, enabled):
        self.checkpointed.append(enabled)
        return contextlib.nullcontext()

    def verify(self) -> None:
        pass

    def poll_requests(self) -> None:
        self.polls += 1

    def tensors(self) -> dict[str, torch.Tensor]:
        """Copies of everything that must not change."""
        state = {f"unet.{k}": v.clone() for k, v in self.unet.state_dict().items()}
        encoder = self.text_encoders[0]
        state["table"] = encoder.table.weight.clone()
        state.update({f"layer.{k}": v.clone() for k, v in encoder.layer.state_dict().items()})
        return state


def write_images(folder: Path, count: int = 6, name: str = "zog_x") -> None:
    """Colored images of two shapes with captions that mention ``name``."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, contents in enumerate(_image_files(count)):
        (folder / f"{index:02d}.png").write_bytes(contents)
        (folder / f"{index:02d}.txt").write_text(f"{name}, tag {index}, left, blue background")


@functools.cache
def _image_files(count: int) -> list[bytes]:
    """Contents of the PNG files; compressing noise takes longer than everything else in many a test."""
    rng = np.random.default_rng(0)
    files = []
    for index in range(count):
        size = (64, 64) if index % 3 else (128, 64)
        pixels = rng.integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
        pixels[: size[1] // 2] = (30, 200, 180)
        Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
        files.append(file.getvalue())
    return files


def toy_config(folder: Path, **changes) -> TrainConfig:
    values = {
        "concepts": (Concept("zog_x", init_text="teal thing", vectors=3),),
        "data_folder": str(folder),
        "resolution": 64,
        "steps": 8,
        "batch_size": 2,
        "rank": 4,
        "alpha": 2.0,
        # The LoRA is trained from the first of these few steps on.
        "lora_start": 0.0,
        "output_name": "toy",
        "sample_every": 0,
        "step_bundles": 0,
    }
    return TrainConfig(**{**values, **changes})
