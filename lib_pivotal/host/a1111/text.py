"""The SD1 text encoder of a webui, called below its prompt syntax."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from lib_pivotal.core.ports import EncodedText

__all__ = ["ClipLEncoder"]


class ClipLEncoder:
    """CLIP-L as SD1 uses it; implements ``core.ports.TextEncoder``.

    Prompt syntax (brackets, BREAK, commas) and the user's settings live in the webui's wrapper, so the
    encoder is called below it.

    Args:
        model: the webui's model.
        clip_skip: 1 is the last layer.
        autocast: makes the context of the forward pass.

    Host: modules/sd_hijack_clip.py, ``FrozenCLIPEmbedderWithCustomWords``, A1111 1.6.1-1.10.1: ``wrapped`` holds
    the HF tokenizer and model; start and end are the tokenizer's, the padding is the end.
    """

    name = "clip_l"

    def __init__(self, model: Any, clip_skip: int, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        self._wrapper = model.cond_stage_model
        self._tokenizer = self._wrapper.wrapped.tokenizer
        self._clip_skip = clip_skip
        self._autocast = autocast
        self.transformer = self._wrapper.wrapped.transformer
        self.width = int(self.token_vectors().shape[1])
        self.start_id = int(self._tokenizer.bos_token_id)
        self.end_id = int(self._tokenizer.eos_token_id)
        self.pad_id = self.end_id

    def tokenize(self, text: str) -> list[int]:
        """Ids of ``text`` taken literally, without start and end; any length."""
        return list(self._tokenizer([text], truncation=False, add_special_tokens=False)["input_ids"][0])

    def token_vectors(self) -> torch.Tensor:
        """The frozen vocabulary table, shape ``(vocabulary, width)``; never to be written.

        Host: modules/sd_hijack.py, ``EmbeddingsWithFixes``, A1111 1.6.1-1.10.1: wraps the table in ``wrapped``.
        """
        layer = self._token_layer()
        return getattr(layer, "wrapped", layer).weight

    def encode(
        self, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor
    ) -> EncodedText:
        """Run the encoder as a generation does, with some token vectors replaced.

        Args:
            ids: int64, shape ``(N, 77)``.
            rows: int64, shape ``(K,)``.
            columns: int64, shape ``(K,)``, 1 … 75.
            vectors: fp32, shape ``(K, width)``; gradients flow back into it.

        Host: modules/sd_hijack.py, ``EmbeddingsWithFixes.forward``, A1111 1.6.1-1.10.1: whatever is left in the
        hijack's one slot ``fixes`` would be spliced into this call, so it is emptied.
        """
        device = self.token_vectors().device
        hijack = getattr(self._wrapper, "hijack", None)
        if hijack is not None:
            hijack.fixes = None

        def splice(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return output.index_put((rows.to(device), columns.to(device)), vectors.to(output))

        handle = self._token_layer().register_forward_hook(splice) if len(rows) else None
        try:
            with self._autocast():
                return EncodedText(self._hidden(ids.to(device)))
        finally:
            if handle is not None:
                handle.remove()

    def _hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """The last hidden states that a generation uses, shape ``(N, 77, width)``.

        Host: modules/sd_hijack_clip.py, ``encode_with_transformers``, A1111 1.6.1-1.10.1: a skipped layer's output
        passes the final layer norm too.
        """
        if self._clip_skip <= 1:
            return self.transformer(input_ids=ids).last_hidden_state
        output = self.transformer(input_ids=ids, output_hidden_states=True)
        return self.transformer.text_model.final_layer_norm(output.hidden_states[-self._clip_skip])

    def _token_layer(self) -> Any:
        return self.transformer.text_model.embeddings.token_embedding
