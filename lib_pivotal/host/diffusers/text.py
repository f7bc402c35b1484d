"""The text encoders of a headless model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from lib_pivotal.core.families import TextEncoderInfo
from lib_pivotal.core.ports import EncodedText
from lib_pivotal.core.textual_inversion.replaced_rows import replaced_rows

__all__ = ["HfEncoder", "TextPart"]


@dataclass(frozen=True)
class TextPart:
    """A text encoder as a checkpoint holds it.

    Attributes:
        info: which encoder of its family it is.
        model: CLIP text model of transformers; versions before 5 nest its modules in ``text_model``.
        tokenizer: CLIP tokenizer of transformers.
        layer: the layer whose output is used, counted from the end; -1 is the last one.
        allows_clip_skip: whether clip skip chooses the layer instead.
    """

    info: TextEncoderInfo
    model: Any
    tokenizer: Any
    layer: int
    allows_clip_skip: bool


class HfEncoder:
    """A text encoder of transformers; implements ``core.ports.TextEncoder``.

    Args:
        part: the encoder.
        clip_skip: 1 is the last layer.
        autocast: makes the context of the forward pass.
    """

    def __init__(self, part: TextPart, clip_skip: int, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        self.name = part.info.name
        self.text_model = self.module = part.model
        self._part = part
        self._modules = getattr(part.model, "text_model", part.model)
        self._autocast = autocast
        self._layer = -clip_skip if part.allows_clip_skip else part.layer
        self.width = int(self.token_vectors().shape[1])
        self.start_id = int(part.tokenizer.bos_token_id)
        self.end_id = int(part.tokenizer.eos_token_id)
        # The tokenizer's own padding differs between copies of CLIP-L; SD1 was trained with the end token.
        self.pad_id = 0 if part.info.is_open_clip else self.end_id

    def with_clip_skip(self, clip_skip: int) -> HfEncoder:
        """The same encoder, read ``clip_skip`` layers from the end if its family allows that."""
        return HfEncoder(self._part, clip_skip, self._autocast)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the literal text, of any length, without start and end tokens."""
        ids = self._part.tokenizer(text, truncation=False, add_special_tokens=False, verbose=False)["input_ids"]
        return [int(number) for number in ids]

    def token_vectors(self) -> torch.Tensor:
        """The frozen token embedding table, shape ``(vocabulary, width)``; must not be changed."""
        table: torch.Tensor = self._modules.embeddings.token_embedding.weight
        return table

    def encode(
        self, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor
    ) -> EncodedText:
        """Run the encoder with some token vectors replaced; training and previews use the same code.

        Args:
            ids: int64, shape ``(N, 77)``.
            rows: int64, shape ``(K,)``.
            columns: int64, shape ``(K,)``, 1 … 75.
            vectors: fp32, shape ``(K, width)``; gradients flow back into it.
        """
        with replaced_rows(self._modules.embeddings.token_embedding, rows, columns, vectors), self._autocast():
            return self._read(ids)

    def _read(self, ids: torch.Tensor) -> EncodedText:
        """As in the webui: an earlier layer of SD1 goes through the final norm too; SDXL's layers do not."""
        info = self._part.info
        if self._layer == -1 and info.is_normed and not info.has_pooled_text:
            return EncodedText(self.text_model(input_ids=ids).last_hidden_state)
        output = self.text_model(input_ids=ids, output_hidden_states=True)
        hidden: torch.Tensor = output.hidden_states[self._layer]
        if info.is_normed:
            hidden = self._modules.final_layer_norm(hidden)
        return EncodedText(hidden, output.text_embeds if info.has_pooled_text else None)
