"""Turns captions into conditioning with the model's own text encoders and the current embedding vectors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lib_pivotal.core.negative_rows import NegativeRows, with_negative_rows
from lib_pivotal.core.ports import DiffusionModel, EncodedText, ImageSize, TextEncoder
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.emphasis import weighted
from lib_pivotal.core.textual_inversion.encoded_twice import encoded_twice
from lib_pivotal.core.textual_inversion.prompt_chunks import ChunkedPrompt, PromptChunker
from lib_pivotal.core.to_device import to_device

__all__ = ["CaptionGroup", "TextConditioner", "TrainedAdapters"]

_MAX_CHUNKED = 4096
"""Maximum number of captions whose token ids are cached; captions that are not shuffled recur."""

_MAX_CACHED_BYTES = 256 * 2**20
"""Size in bytes beyond which the cache of encodings is emptied before the next batch."""


class TrainedAdapters(Protocol):
    """Adapters of a text encoder, which change its output while they are enabled."""

    enabled: bool


@dataclass(frozen=True)
class CaptionGroup:
    """Items of a batch whose captions have equally many chunks: their indices in the batch and conditioning."""

    indices: list[int]
    conditioning: Any


class TextConditioner:
    """Encodes captions with the current embedding vectors.

    Captions with different numbers of chunks are encoded separately, so that none gets padding that a generation would
    not have. Captions that occur several times in a batch are encoded once. While nothing that an encoding depends on
    is trained, it is cached; this is always so for captions without names if no text encoder has a LoRA.

    Args:
        model: the borrowed model.
        embeddings: vectors of the embeddings; without any, names are plain text.
        adapters: trained adapters of the text encoders; may be empty.
        may_offload: whether to offload the text encoders once nothing that their output depends on is trained any more,
            and to cache what they have encoded in main memory.
        caches_in_main_memory: whether to do only the latter, where another one decides about the former.
        encodes_twice: whether to encode again in the backward pass, so that offloaded text encoders need not be on the
            device in between.
        encoders: replacements for the model's own text encoders.
        has_emphasis: whether brackets in captions weigh what is in them, see ``emphasis.py``.
    """

    def __init__(
        self,
        model: DiffusionModel,
        embeddings: EmbeddingWeights | None = None,
        adapters: Sequence[TrainedAdapters] = (),
        *,
        may_offload: bool = False,
        caches_in_main_memory: bool = False,
        encodes_twice: bool = False,
        encoders: Sequence[TextEncoder] = (),
        has_emphasis: bool = False,
    ) -> None:
        self._model = model
        self._may_offload = may_offload
        self._encodes_twice = encodes_twice
        self._cached_on = torch.device("cpu") if may_offload or caches_in_main_memory else model.device
        self._encoders = encoders or model.text_encoders
        self._embeddings = embeddings or EmbeddingWeights()
        self._adapters = list(adapters)
        self._chunkers = [
            PromptChunker(encoder, self._embeddings.layout, has_emphasis=has_emphasis) for encoder in self._encoders
        ]
        self._chunked: dict[str, list[ChunkedPrompt]] = {}
        self._cached: dict[str, list[EncodedText]] = {}
        self._cached_bytes = 0

    @property
    def is_trained(self) -> bool:
        """Whether the encoding of a caption may change with the next step."""
        weights = self._embeddings.weights.values()
        return any(weight.requires_grad for weight in weights) or any(item.enabled for item in self._adapters)

    def is_uniform(self, captions: Sequence[str]) -> bool:
        """Whether all captions have the same number of chunks, so that :meth:`encode` makes one group of them."""
        return len({len(self._chunk(caption)[0].ids) for caption in captions}) == 1

    def encode(
        self, captions: Sequence[str], sizes: Sequence[ImageSize], *, plain_count: int = 0
    ) -> list[CaptionGroup]:
        """Encode the captions of a batch.

        Args:
            captions: one per item.
            sizes: one per item, for models with size conditioning.
            plain_count: number of captions at the end that are encoded without the adapters; a caption must always be
                encoded the same way.
        """
        first_plain = len(captions) - plain_count
        by_chunks: dict[int, list[int]] = {}
        for index, caption in enumerate(captions):
            by_chunks.setdefault(len(self._chunk(caption)[0].ids), []).append(index)
        groups = []
        for chunks, indices in by_chunks.items():
            adapted = sum(index < first_plain for index in indices)
            encoded = self._encode([captions[index] for index in indices], chunks, adapted)
            is_empty = [not captions[index] for index in indices]
            conditioning = self._model.condition(encoded, chunks, [sizes[index] for index in indices], is_empty)
            groups.append(CaptionGroup(indices, conditioning))
        return groups

    def _chunk(self, caption: str) -> list[ChunkedPrompt]:
        """Chunk a caption with every encoder's tokenizer."""
        if caption not in self._chunked:
            if len(self._chunked) >= _MAX_CHUNKED:
                self._chunked.clear()
            prompts = [chunker.chunk(caption) for chunker in self._chunkers]
            chunks = max(len(prompt.ids) for prompt in prompts)
            # Two tokenizers may differ on non-English letters.
            self._chunked[caption] = [
                chunker.padded(prompt, chunks) for chunker, prompt in zip(self._chunkers, prompts, strict=True)
            ]
        return self._chunked[caption]

    def _encode(self, captions: Sequence[str], chunks: int, adapted: int) -> list[EncodedText]:
        """Encodings of captions with ``chunks`` chunks each, one :class:`EncodedText` per encoder.

        Only the first ``adapted`` captions are encoded with the adapters.
        """
        distinct = list(dict.fromkeys(captions))
        trained = [caption for caption in distinct if self._is_trained(caption)]
        for caption in trained:
            # It may have been encoded while its embeddings were frozen.
            self._cached.pop(caption, None)
        # Shuffled captions never recur, so in a full cache the new ones are no more useful than the old ones.
        if any(item.enabled for item in self._adapters) or self._cached_bytes > _MAX_CACHED_BYTES:
            self._cached.clear()
            self._cached_bytes = 0
        if len(trained) == len(captions):
            return self._run_trained(captions, adapted)
        if self._may_offload and not self.is_trained:
            self._model.offloading.offload("text_encoders")
            self._may_offload = False
        parts: dict[str, list[EncodedText]] = {}
        if trained:
            with_adapters = set(captions[:adapted])
            count = sum(caption in with_adapters for caption in trained)
            parts = _by_caption(trained, chunks, self._run_trained(trained, count))
        new = [caption for caption in distinct if caption not in parts and caption not in self._cached]
        if new:
            with torch.no_grad():
                self._cache(_by_caption(new, chunks, self._run_all(new)))
        own = [parts[caption] if caption in parts else self._cached[caption] for caption in captions]
        device = self._model.device
        return [_joined([part[number] for part in own], device) for number in range(len(self._chunkers))]

    def _is_trained(self, caption: str) -> bool:
        """Whether the encoding of a caption may change with the next step."""
        if any(item.enabled for item in self._adapters):
            return True
        weights = self._embeddings.weights.values()
        is_named = any(len(prompt.vectors) for prompt in self._chunk(caption))
        return is_named and any(weight.requires_grad for weight in weights)

    def _cache(self, encoded: dict[str, list[EncodedText]]) -> None:
        for caption, texts in encoded.items():
            self._cached[caption] = [_moved(text, self._cached_on) for text in texts]
            self._cached_bytes += sum(text.hidden.numel() * text.hidden.element_size() for text in texts)

    def _run_adapted(self, captions: Sequence[str], adapted: int) -> list[EncodedText]:
        """Encodings of captions, of which only the first ``adapted`` ones are encoded with the adapters."""
        if adapted == len(captions) or not any(item.enabled for item in self._adapters):
            return self._run_all(captions)
        with_adapters = self._run_all(captions[:adapted]) if adapted else []
        # Not by disabling the adapters: layers that the backward pass recomputes would find them enabled.
        with with_negative_rows(NegativeRows(0, sys.maxsize, are_spared=True)):
            without = self._run_all(captions[adapted:])
        return (
            [_joined(pair, self._model.device) for pair in zip(with_adapters, without, strict=True)]
            if adapted
            else without
        )

    def _run_trained(self, captions: Sequence[str], adapted: int) -> list[EncodedText]:
        """The same, with everything that the backward pass needs."""
        if not self._encodes_twice:
            return self._run_adapted(captions, adapted)

        def run() -> list[EncodedText]:
            # The backward pass is not within the autocast context of the step.
            with self._model.autocast():
                return self._run_adapted(captions, adapted)

        return encoded_twice(run, lambda: self._model.offloading.on_device("text_encoders"))

    def _run_all(self, captions: Sequence[str]) -> list[EncodedText]:
        chunked = [self._chunk(caption) for caption in captions]
        with self._model.offloading.on_device("text_encoders"):
            return [
                self._run(encoder, [prompts[number] for prompts in chunked])
                for number, encoder in enumerate(self._encoders)
            ]

    def _run(self, encoder: TextEncoder, prompts: Sequence[ChunkedPrompt]) -> EncodedText:
        device = self._model.device
        ids = torch.cat([prompt.ids for prompt in prompts])
        rows: list[int] = []
        columns: list[int] = []
        vectors: list[int] = []
        first = 0
        for prompt in prompts:
            rows += [first + row for row in prompt.rows]
            columns += prompt.columns
            vectors += prompt.vectors
            first += len(prompt.ids)
        index = to_device(torch.tensor([rows, columns, vectors], dtype=torch.int64), device)
        weight = self._embeddings.weights.get(encoder.name)
        if weight is None:
            weight = torch.empty(0, encoder.width, device=device)
        text = encoder.encode(to_device(ids, device), index[0], index[1], weight[index[2]])
        if all(prompt.weights is None for prompt in prompts):
            return text
        ones = [torch.ones(prompt.ids.shape) if prompt.weights is None else prompt.weights for prompt in prompts]
        # The pooled text has no emphasis, as in the webui.
        return EncodedText(weighted(text.hidden, to_device(torch.cat(ones), device)), text.pooled)


def _by_caption(captions: Sequence[str], chunks: int, encoded: Sequence[EncodedText]) -> dict[str, list[EncodedText]]:
    """The rows of each of several captions in the encoders' outputs."""
    result = {}
    for index, caption in enumerate(captions):
        at = slice(index * chunks, (index + 1) * chunks)
        result[caption] = [
            EncodedText(text.hidden[at], None if text.pooled is None else text.pooled[at]) for text in encoded
        ]
    return result


def _moved(text: EncodedText, device: torch.device) -> EncodedText:
    return EncodedText(text.hidden.to(device), None if text.pooled is None else text.pooled.to(device))


def _joined(texts: Sequence[EncodedText], device: torch.device) -> EncodedText:
    hidden = _joined_on([text.hidden for text in texts], device)
    pooled = [text.pooled for text in texts if text.pooled is not None]
    return EncodedText(hidden, _joined_on(pooled, device) if pooled else None)


def _joined_on(tensors: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    # Those that are kept may be in main memory, and those that are trained are on the device.
    if len({tensor.device.type for tensor in tensors}) > 1:
        tensors = [_placed(tensor, device) for tensor in tensors]
    return _placed(torch.cat(tensors), device)


def _placed(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor if tensor.device.type == device.type else to_device(tensor, device)
