"""Encodings of captions are cached once nothing that they depend on is trained any more, within a limit."""

from __future__ import annotations

import torch

from lib_pivotal.core.textual_inversion import text_conditioner
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from tests.unit.toy import ToyModel


def test_a_full_cache_makes_room_even_in_a_batch_that_it_partly_holds(monkeypatch):
    texts = TextConditioner(ToyModel())
    (expected,) = texts.encode(["kept", "new"], [None, None])
    monkeypatch.setattr(text_conditioner, "_MAX_CACHED_BYTES", 0)
    texts = TextConditioner(ToyModel())
    texts.encode(["kept"], [None])
    (group,) = texts.encode(["kept", "new"], [None, None])
    assert torch.allclose(group.conditioning, expected.conditioning, atol=1e-6)
