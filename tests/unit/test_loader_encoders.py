"""Finding the text encoders of the loaded model, also when the webui exchanges them inside it."""

from __future__ import annotations

import gc
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lib_pivotal.host.bundle_prompts.encoders import LiveEncoders


class _Table(torch.nn.Module):
    def __init__(self, key: str, width: int) -> None:
        super().__init__()
        self.textual_inversion_key = key
        self.wrapped = torch.nn.Embedding(4, width)


class _Encoder(torch.nn.Module):
    """What the webui puts round an encoder."""

    def __init__(self, key: str, width: int, first_id: int) -> None:
        super().__init__()
        self.embedding, self.first_id = _Table(key, width), first_id

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return [[self.first_id + len(text)] for text in texts]

    def tokenize_line(self, line: str) -> None:
        raise NotImplementedError


class _Conditioner(torch.nn.Module):
    """SDXL's, which has the encoders in a list."""

    def __init__(self, *embedders: torch.nn.Module) -> None:
        super().__init__()
        self.embedders = torch.nn.ModuleList(embedders)


def _tokenize(encoder: Any, texts: list[str]) -> list[list[int]]:
    return encoder.tokenize(texts)


@pytest.fixture
def live() -> LiveEncoders:
    return LiveEncoders(_tokenize)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[torch.nn.Module], None]:
    data = types.SimpleNamespace(sd_model=None)
    modules = types.ModuleType("modules")
    modules.sd_models = types.SimpleNamespace(model_data=data)
    monkeypatch.setitem(__import__("sys").modules, "modules", modules)

    def put(conditioner: torch.nn.Module) -> None:
        data.sd_model = types.SimpleNamespace(cond_stage_model=conditioner)

    return put


def test_widths_and_tokens_of_both_encoders(load: Callable[[torch.nn.Module], None], live: LiveEncoders) -> None:
    load(_Conditioner(_Encoder("clip_l", 8, 100), _Encoder("clip_g", 12, 200)))
    found = live()
    assert found is not None
    assert dict(found.widths) == {"clip_l": 8, "clip_g": 12}
    assert found.runs("zog") == ((103,), (203,))
    assert live() is found


def test_exchanged_encoders_are_found_again(load: Callable[[torch.nn.Module], None], live: LiveEncoders) -> None:
    conditioner = _Conditioner(_Encoder("clip_l", 8, 100), _Encoder("clip_g", 12, 200))
    load(conditioner)
    assert live() is not None
    for number in range(2):
        conditioner.embedders[number] = _Encoder(("clip_l", "clip_g")[number], 8, 300 + 100 * number)
    gc.collect()
    found = live()
    assert found is not None
    assert found.runs("zog") == ((303,), (403,))
    assert found.runs("other") == ((305,), (405,))


class _Counting(torch.nn.Module):
    """Counts how often its whole tree is walked."""

    walks = 0

    def modules(self):
        type(self).walks += 1
        return super().modules()


def test_a_model_without_such_encoders_is_walked_once(
    load: Callable[[torch.nn.Module], None], live: LiveEncoders
) -> None:
    class Plain(_Counting):
        walks = 0

    model = Plain()
    model.encoder = torch.nn.Linear(2, 2)
    load(model)
    assert [live() for _ in range(5)] == [None] * 5
    assert Plain.walks == 1
    # The webui puts its wrappers in later.
    model.encoder = _Encoder("clip_l", 8, 100)
    assert live() is not None
