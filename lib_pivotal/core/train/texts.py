"""Captions to conditions: through the model's own encoders, with the live vectors in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lib_pivotal.core.pivot.prompt import PlacedText, TextPlacer
from lib_pivotal.core.ports import DiffusionModel, EncodedText, ImageSize, TextEncoder

__all__ = ["TextGroup", "TextPath", "VectorTable"]

_REMEMBERED = 4096
"""Captions whose tokens are kept; varied captions come back when nothing is shuffled."""

_KEPT_BYTES = 256 * 2**20
"""Encodings that are kept once nothing before them is trained any more."""


class VectorTable(Protocol):
    """Vectors of one encoder: those being trained, or those of a finished bundle."""

    layout: dict[str, tuple[int, int]]
    """Name → (first row, number of rows)."""
    table: torch.Tensor
    """fp32 on the model's device, shape ``(vectors, width)``."""


class TextLora(Protocol):
    """A LoRA of a text encoder."""

    enabled: bool


@dataclass(frozen=True)
class TextGroup:
    """Items of a batch whose captions have equally many rows: their places in the batch, and the condition."""

    places: list[int]
    condition: Any


class TextPath:
    """Encodes captions with the current vectors.

    Captions of different length are encoded apart, so that none sees padding that a generation would
    not give it. When nothing that an encoding depends on is trained, encodings are kept.

    Args:
        model: the borrowed model.
        tables: vectors of each encoder, in the model's order; empty when no embedding is trained.
        loras: of the text encoders; empty when none is trained.
        may_rest: whether the text encoders leave the device once nothing before them is trained any more.
        encoders: to use instead of the model's own.
    """

    def __init__(
        self,
        model: DiffusionModel,
        tables: Sequence[VectorTable],
        loras: Sequence[TextLora] = (),
        *,
        may_rest: bool = False,
        encoders: Sequence[TextEncoder] = (),
    ) -> None:
        self._model = model
        self._may_rest = may_rest
        self._encoders = encoders or model.text_encoders
        self._tables = list(tables)
        self._loras = list(loras)
        layout = tables[0].layout if tables else {}
        self._placers = [TextPlacer(encoder, layout) for encoder in self._encoders]
        self._placed: dict[str, list[PlacedText]] = {}
        self._kept: dict[str, list[EncodedText]] = {}
        self._kept_bytes = 0

    @property
    def is_live(self) -> bool:
        """Whether an encoding of now may be out of date at the next step."""
        return any(table.table.requires_grad for table in self._tables) or any(lora.enabled for lora in self._loras)

    def encode(self, captions: Sequence[str], sizes: Sequence[ImageSize]) -> list[TextGroup]:
        """Conditions of a batch.

        Args:
            captions: one an item.
            sizes: of the items' pictures, for models that are told them.
        """
        placed = [self._place(caption) for caption in captions]
        by_rows: dict[int, list[int]] = {}
        for place, texts in enumerate(placed):
            by_rows.setdefault(len(texts[0].ids), []).append(place)
        groups = []
        for rows, places in by_rows.items():
            encoded = self._encoded([captions[place] for place in places], rows)
            is_empty = [not captions[place] for place in places]
            condition = self._model.condition(encoded, rows, [sizes[place] for place in places], is_empty)
            groups.append(TextGroup(places, condition))
        return groups

    def _place(self, caption: str) -> list[PlacedText]:
        if caption not in self._placed:
            if len(self._placed) >= _REMEMBERED:
                self._placed.clear()
            texts = [placer.place(caption) for placer in self._placers]
            rows = max(len(text.ids) for text in texts)
            # Two tokenizers may differ on letters that are not English.
            self._placed[caption] = [
                placer.lengthened(text, rows) for placer, text in zip(self._placers, texts, strict=True)
            ]
        return self._placed[caption]

    def _encoded(self, captions: Sequence[str], rows: int) -> list[EncodedText]:
        """Encodings of captions of so many rows each, one :class:`EncodedText` an encoder."""
        if self.is_live:
            self._kept.clear()
            self._kept_bytes = 0
            return self._run_all(captions)
        if self._may_rest:
            self._model.offloading.offload("text_encoders")
            self._may_rest = False
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._kept]
        if new:
            self._keep(new, rows, self._run_all(new))
        parts = [self._kept[caption] for caption in captions]
        return [_joined([part[number] for part in parts]) for number in range(len(self._placers))]

    def _keep(self, captions: Sequence[str], rows: int, encoded: Sequence[EncodedText]) -> None:
        if self._kept_bytes > _KEPT_BYTES:
            # Shuffled captions never come back; these are of no use any more than older ones.
            self._kept.clear()
            self._kept_bytes = 0
        for place, caption in enumerate(captions):
            at = slice(place * rows, (place + 1) * rows)
            own = [EncodedText(text.hidden[at], None if text.pooled is None else text.pooled[at]) for text in encoded]
            self._kept[caption] = own
            self._kept_bytes += sum(text.hidden.numel() * text.hidden.element_size() for text in own)

    def _run_all(self, captions: Sequence[str]) -> list[EncodedText]:
        placed = [self._place(caption) for caption in captions]
        with self._model.offloading.on_device("text_encoders"):
            return [self._run(number, [texts[number] for texts in placed]) for number in range(len(self._placers))]

    def _run(self, number: int, texts: Sequence[PlacedText]) -> EncodedText:
        encoder, device = self._encoders[number], self._model.device
        ids = torch.cat([text.ids for text in texts])
        rows: list[int] = []
        columns: list[int] = []
        vectors: list[int] = []
        first = 0
        for text in texts:
            rows += [first + row for row in text.rows]
            columns += text.columns
            vectors += text.vectors
            first += len(text.ids)
        index = torch.tensor([rows, columns, vectors], dtype=torch.int64).to(device)
        table = self._tables[number].table if self._tables else torch.empty(0, encoder.width, device=device)
        return encoder.encode(ids.to(device), index[0], index[1], table[index[2]])


def _joined(texts: Sequence[EncodedText]) -> EncodedText:
    pooled = [text.pooled for text in texts if text.pooled is not None]
    return EncodedText(torch.cat([text.hidden for text in texts]), torch.cat(pooled) if pooled else None)
