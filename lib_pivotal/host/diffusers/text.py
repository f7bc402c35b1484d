"""The text encoder of a headless model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from lib_pivotal.core.ports import EncodedText

__all__ = ["ClipLEncoder"]


class ClipLEncoder:
    """CLIP-L as SD1 uses it; implements ``core.ports.TextEncoder``.

    Args:
        text_model: CLIP text model of transformers; versions before 5 nest its parts in ``text_model``.
        tokenizer: CLIP tokenizer of transformers.
        clip_skip: 1 is the last layer.
        autocast: makes the context of the forward pass.
    """

    name = "clip_l"

    def __init__(
        self, text_model: Any, tokenizer: Any, clip_skip: int, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.text_model = text_model
        self._parts = getattr(text_model, "text_model", text_model)
        self._tokenizer = tokenizer
        self._clip_skip = clip_skip
        self._autocast = autocast
        self.width = int(self.token_vectors().shape[1])
        self.start_id = int(tokenizer.bos_token_id)
        self.end_id = int(tokenizer.eos_token_id)
        # The tokenizer's own padding differs between copies of CLIP-L; SD1 was made with the end token.
        self.pad_id = self.end_id

    def with_clip_skip(self, clip_skip: int) -> ClipLEncoder:
        """The same encoder, read ``clip_skip`` layers from the end."""
        return ClipLEncoder(self.text_model, self._tokenizer, clip_skip, self._autocast)

    def tokenize(self, text: str) -> list[int]:
        """Ids of ``text`` taken literally, without start and end; any length."""
        ids = self._tokenizer(text, truncation=False, add_special_tokens=False, verbose=False)["input_ids"]
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
                return EncodedText(self._hidden(ids))
        finally:
            if handle is not None:
                handle.remove()

    def _hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """As in the webui, a skipped layer's output passes the final layer norm too."""
        hidden: torch.Tensor
        if self._clip_skip <= 1:
            hidden = self.text_model(input_ids=ids).last_hidden_state
        else:
            layers = self.text_model(input_ids=ids, output_hidden_states=True).hidden_states
            hidden = self._parts.final_layer_norm(layers[-self._clip_skip])
        return hidden
