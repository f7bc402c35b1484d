"""Forge's text encoders, called below its prompt syntax."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.families import Family, TextEncoderInfo
from lib_pivotal.core.ports import EncodedText
from lib_pivotal.core.textual_inversion.replaced_rows import replaced_rows
from lib_pivotal.host.forge.family import text_engines

__all__ = ["ForgeEncoder", "encoders_of"]


def encoders_of(engine: Any, family: Family, clip_skip: int) -> tuple[ForgeEncoder, ...]:
    """The encoders of a model, in the order in which its UNet gets their outputs.

    Args:
        engine: Forge's model.
        family: the family of the model.
        clip_skip: 1 is the last layer; ignored for families that have a layer of their own.
    """
    skip = clip_skip if family.allows_clip_skip else 1
    parts = text_engines(engine)
    return tuple(ForgeEncoder(part, info, skip) for part, info in zip(parts, family.text_encoders, strict=True))


class ForgeEncoder:
    """CLIP of transformers, as all of Forge's models have it; implements ``core.ports.TextEncoder``.

    Args:
        part: Forge's text engine around the encoder.
        info: which encoder of its family it is.
        clip_skip: 1 is the last layer.

    Host: backend/text_processing/classic_engine.py, ``ClassicTextProcessingEngine``, Forge: has the model in
        ``text_encoder.transformer``, the tokenizer, and the ids ``id_start``, ``id_end`` and ``id_pad``. Its
        ``tokenize`` is not used, since bundle prompts hook it.
    """

    def __init__(self, part: Any, info: TextEncoderInfo, clip_skip: int = 1) -> None:
        self.name = info.name
        self.module = part.text_encoder.transformer
        self.start_id, self.end_id, self.pad_id = int(part.id_start), int(part.id_end), int(part.id_pad)
        self._part = part
        self._layer = max(clip_skip, int(part.minimal_clip_skip))
        self._embeddings = self.module.text_model.embeddings
        self._prepare()
        self.width = int(self.token_vectors().shape[1])

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the literal text, of any length, without start and end tokens."""
        return list(self._part.tokenizer([text], truncation=False, add_special_tokens=False)["input_ids"][0])

    def token_vectors(self) -> torch.Tensor:
        """The frozen token embedding table, shape ``(vocabulary, width)``; must not be changed.

        Host: backend/text_processing/classic_engine.py, ``CLIPEmbeddingForTextualInversion.wrapped``, Forge.
        """
        layer = self._embeddings.token_embedding
        return getattr(layer, "wrapped", layer).weight

    def encode(
        self, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor
    ) -> EncodedText:
        """Run the encoder as a generation does, in fp32, with some token vectors replaced.

        Args:
            ids: int64, shape ``(N, 77)``.
            rows: int64, shape ``(K,)``.
            columns: int64, shape ``(K,)``, 1 … 75.
            vectors: fp32, shape ``(K, width)``; gradients flow back into it.

        Host: backend/text_processing/classic_engine.py, ``encode_with_transformers``, Forge: the layer counted from the
            end, the norm where the engine has ``final_layer_norm``, and the pooled text behind ``text_projection``,
            without autocast: each module casts its weights to the type of its input.
        Host: backend/text_processing/classic_engine.py, ``CLIPEmbeddingForTextualInversion.forward``, Forge: inserts
            into this call whatever is left in ``embeddings.fixes``, so that is cleared first.
        """
        self._part.embeddings.fixes = None
        device = self.token_vectors().device
        with (
            replaced_rows(self._embeddings.token_embedding, rows, columns, vectors),
            torch.autocast(device.type, enabled=False),
        ):
            output = self.module(ids.to(device), output_hidden_states=True)
            hidden = output.hidden_states[-self._layer]
            if self._part.final_layer_norm:
                hidden = self.module.text_model.final_layer_norm(hidden)
            return EncodedText(hidden, self._pooled(output) if self._part.return_pooled else None)

    def _pooled(self, output: Any) -> torch.Tensor:
        """Host: backend/text_processing/classic_engine.py, ``encode_with_transformers``, Forge: not for ``clip_l``."""
        pooled: torch.Tensor = output.pooler_output
        is_projected = self._part.text_projection and self._part.embedding_key != "clip_l"
        return self.module.text_projection(pooled) if is_projected else pooled

    def _prepare(self) -> None:
        """Do once what Forge does before each encoding.

        Host: backend/text_processing/classic_engine.py, ``encode_with_transformers``, Forge: moves the position ids to
            the device and casts both embeddings to fp32, the type in which the encoder then computes.
        """
        self._embeddings.position_ids = self._embeddings.position_ids.to(self.token_vectors().device)
        self._embeddings.position_embedding.to(torch.float32)
        self._embeddings.token_embedding.to(torch.float32)
