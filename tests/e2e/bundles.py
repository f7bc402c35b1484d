"""Bundles, plain LoRAs and embedding files with known random contents, for a small model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

__all__ = ["Maker"]

_TEXT_LAYER = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
_UNET_LAYER = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
_TOKENS = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
_KEYS = {
    "lora_te_text_model_encoder_layers_0_mlp_fc1": _TEXT_LAYER,
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": _UNET_LAYER,
}


@dataclass
class Maker:
    """Writes files for one webui.

    Attributes:
        data: the webui's data folder.
        checkpoint: small SD1 checkpoint, for the shapes of its layers.
    """

    data: Path
    checkpoint: Path

    def __post_init__(self) -> None:
        with safe_open(str(self.checkpoint), "pt") as file:
            self._shapes = {key: file.get_slice(layer).get_shape() for key, layer in _KEYS.items()}
        with safe_open(str(self.checkpoint), "pt") as file:
            self.width = file.get_slice(_TOKENS).get_shape()[1]
        self.loras = self.data / "models" / "Lora"
        self.embeddings = self.data / "embeddings"

    def vectors(self, seed: int, count: int = 2, width: int = 0) -> torch.Tensor:
        """Vectors of an embedding, of the size of CLIP's own; of the checkpoint's width unless another is given."""
        return torch.randn(count, width or self.width, generator=torch.Generator().manual_seed(seed)) * 0.3

    def lora(self, seed: int, strength: float = 0.3) -> dict[str, torch.Tensor]:
        """A LoRA on one layer of the text encoder and one of the UNet."""
        generator = torch.Generator().manual_seed(1000 + seed)
        tensors = {}
        for key, (rows, columns) in self._shapes.items():
            tensors[f"{key}.lora_down.weight"] = torch.randn(2, columns, generator=generator) * strength
            tensors[f"{key}.lora_up.weight"] = torch.randn(rows, 2, generator=generator) * strength
            tensors[f"{key}.alpha"] = torch.tensor(2.0)
        return tensors

    def bundle(
        self, name: str, seed: int, embeddings: Mapping[str, int], *, key: str = "string_to_param.*", width: int = 0
    ) -> Path:
        """``NAME.safetensors`` with embeddings (name → seed), and next to it ``plain_NAME`` without them."""
        named = {f"bundle_emb.{word}.{key}": self.vectors(number, width=width) for word, number in embeddings.items()}
        return self.raw(name, seed, named)

    def raw(
        self, name: str, seed: int, named: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
    ) -> Path:
        """The same with tensors under any keys."""
        lora = self.lora(seed)
        save_file(lora, self.loras / f"plain_{name}.safetensors")
        path = self.loras / f"{name}.safetensors"
        save_file({**lora, **named}, path, metadata)
        return path

    def file(self, name: str, seed: int, count: int = 2) -> Path:
        """An ordinary embedding file."""
        path = self.embeddings / f"{name}.safetensors"
        save_file({"emb_params": self.vectors(seed, count)}, path)
        return path
