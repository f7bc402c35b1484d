"""Captions to conditions: through the model's own encoders, with the live vectors in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lib_pivotal.core.pivot.prompt import PlacedText, TextPlacer
from lib_pivotal.core.ports import DiffusionModel, EncodedText, PictureSize

__all__ = ["TextGroup", "TextPath", "VectorTable"]

_REMEMBERED = 4096
"""Captions whose tokens are kept; varied captions come back when nothing is shuffled."""


class VectorTable(Protocol):
    """Vectors of one encoder: those being trained, or those of a finished bundle."""

    layout: dict[str, tuple[int, int]]
    """Name → (first row, number of rows)."""
    table: torch.Tensor
    """fp32 on the model's device, shape ``(vectors, width)``."""


@dataclass(frozen=True)
class TextGroup:
    """Items of a batch whose captions have equally many rows: their places in the batch, and the condition."""

    places: list[int]
    condition: Any


class TextPath:
    """Encodes captions with the current vectors.

    Captions of different length are encoded apart, so that none sees padding that a generation would
    not give it.

    Args:
        model: the borrowed model.
        tables: vectors of each encoder, in the model's order; empty when no embedding is trained.
    """

    def __init__(self, model: DiffusionModel, tables: Sequence[VectorTable]) -> None:
        self._model = model
        self._tables = list(tables)
        layout = tables[0].layout if tables else {}
        self._placers = [TextPlacer(encoder, layout) for encoder in model.text_encoders]
        self._placed: dict[str, list[PlacedText]] = {}

    def encode(self, captions: Sequence[str], sizes: Sequence[PictureSize]) -> list[TextGroup]:
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
            encoded = [
                self._run(number, [placed[place][number] for place in places]) for number in range(len(self._placers))
            ]
            condition = self._model.condition(encoded, rows, [sizes[place] for place in places])
            groups.append(TextGroup(places, condition))
        return groups

    def _place(self, caption: str) -> list[PlacedText]:
        if caption not in self._placed:
            if len(self._placed) >= _REMEMBERED:
                self._placed.clear()
            self._placed[caption] = [placer.place(caption) for placer in self._placers]
        return self._placed[caption]

    def _run(self, number: int, texts: Sequence[PlacedText]) -> EncodedText:
        encoder, device = self._model.text_encoders[number], self._model.device
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
