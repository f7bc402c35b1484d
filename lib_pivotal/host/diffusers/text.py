"""The text encoders of a headless model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from lib_pivotal.core.ports import EncodedText

__all__ = ["HfEncoder", "TextPart"]


@dataclass(frozen=True)
class TextPart:
    """A text encoder as a checkpoint holds it, and how its family reads it.

    Attributes:
        name: bundle name, ``clip_l`` or ``clip_g``.
        model: CLIP text model of transformers; versions before 5 nest its parts in ``text_model``.
        tokenizer: CLIP tokenizer of transformers.
        layer: whose output is used, counted from the end as a list is indexed; -1 is the last.
        is_normed: whether that output passes the final layer norm.
        is_pooled: whether the vector at the end token is used, too.
        pads_with_zero: whether rows are filled with id 0 behind the end; else with the end.
        may_skip: whether clip skip counts.
    """

    name: str
    model: Any
    tokenizer: Any
    layer: int = -1
    is_normed: bool = True
    is_pooled: bool = False
    pads_with_zero: bool = False
    may_skip: bool = False


class HfEncoder:
    """Implements ``core.ports.TextEncoder``.

    Args:
        part: the encoder.
        clip_skip: 1 is the last layer.
        autocast: makes the context of the forward pass.
    """

    def __init__(self, part: TextPart, clip_skip: int, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        self.name = part.name
        self.text_model = part.model
        self._part = part
        self._parts = getattr(part.model, "text_model", part.model)
        self._autocast = autocast
        self._layer = -clip_skip if part.may_skip else part.layer
        self.width = int(self.token_vectors().shape[1])
        self.start_id = int(part.tokenizer.bos_token_id)
        self.end_id = int(part.tokenizer.eos_token_id)
        # The tokenizer's own padding differs between copies of CLIP-L; SD1 was made with the end token.
        self.pad_id = 0 if part.pads_with_zero else self.end_id

    def with_clip_skip(self, clip_skip: int) -> HfEncoder:
        """The same encoder, read ``clip_skip`` layers from the end if its family can."""
        return HfEncoder(self._part, clip_skip, self._autocast)

    def tokenize(self, text: str) -> list[int]:
        """Ids of ``text`` taken literally, without start and end; any length."""
        ids = self._part.tokenizer(text, truncation=False, add_special_tokens=False, verbose=False)["input_ids"]
        return [int(number) for number in ids]

    def token_vectors(self) -> torch.Tensor:
        """The frozen vocabulary table, shape ``(vocabulary, width)``; never to be written."""
        table: torch.Tensor = self._parts.embeddings.token_embedding.weight
        return table

    def encode(
        self, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor
    ) -> EncodedText:
        """Run the encoder with some token vectors replaced, the same way for training and samples.

        Args:
            ids: int64, shape ``(N, 77)``.
            rows: int64, shape ``(K,)``.
            columns: int64, shape ``(K,)``, 1 … 75.
            vectors: fp32, shape ``(K, width)``; gradients flow back into it.
        """

        def splice(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return output.index_put((rows, columns), vectors.to(output))

        handle = self._parts.embeddings.token_embedding.register_forward_hook(splice) if len(rows) else None
        try:
            with self._autocast():
                return self._read(ids)
        finally:
            if handle is not None:
                handle.remove()

    def _read(self, ids: torch.Tensor) -> EncodedText:
        """As in the webui: SD1's skipped layer passes the final norm, too; SDXL's layers do not."""
        if self._layer == -1 and self._part.is_normed and not self._part.is_pooled:
            return EncodedText(self.text_model(input_ids=ids).last_hidden_state)
        output = self.text_model(input_ids=ids, output_hidden_states=True)
        hidden: torch.Tensor = output.hidden_states[self._layer]
        if self._part.is_normed:
            hidden = self._parts.final_layer_norm(hidden)
        return EncodedText(hidden, output.text_embeds if self._part.is_pooled else None)
