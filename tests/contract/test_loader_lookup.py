"""How names get from a prompt to embeddings, with all hooks installed in the fake webui."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.bundle_tools import WebuiBundleTools
from lib_pivotal.host.bundle_prompts.install import active_names, install, uninstall
from tests.contract.fake_webui import FakeWebui


class _Table(torch.nn.Module):
    """The webui's wrapper around the token embedding."""

    textual_inversion_key = "clip_l"

    def __init__(self) -> None:
        super().__init__()
        self.wrapped = torch.nn.Embedding(4, 8)


class _Encoder(torch.nn.Module):
    """The webui's wrapper around a text encoder; one token per letter."""

    def __init__(self) -> None:
        super().__init__()
        self.table = _Table()

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return [[40_000 + ord(letter) for letter in text] for text in texts]

    def tokenize_line(self, line: str) -> None:
        raise NotImplementedError


class _EncoderOfSdxl(_Encoder):
    """Inherits the tokenizer that our hook is in."""


class _Embedding:
    def __init__(self, vec: Any, name: str) -> None:
        self.vec, self.name = vec, name


@pytest.fixture(params=[_Encoder, _EncoderOfSdxl], ids=["the hooked class", "a class derived from it"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The text encoder of a webui with our hooks; whoever calls its ``tokenize`` passes through one."""
    webui = FakeWebui(monkeypatch)
    monkeypatch.setattr(_Encoder, "tokenize", _Encoder.tokenize)  # takes our hook off afterwards
    vars(webui.modules["sd_hijack_clip"])["FrozenCLIPEmbedderWithCustomWords"] = _Encoder
    store = webui.modules["sd_hijack"].model_hijack.embedding_db
    type(store).find_embedding_at_position.behavior = lambda *_: (None, None)
    vars(webui.modules["textual_inversion"])["Embedding"] = _Embedding
    made = request.param()
    webui.modules["sd_models"].model_data.sd_model = types.SimpleNamespace(cond_stage_model=torch.nn.Sequential(made))
    webui.modules["networks"].available_networks = {}
    made.networks, made.store = webui.modules["networks"], store
    install()
    yield made
    uninstall()


def _names() -> ActiveNames:
    found = active_names()
    assert found is not None
    return found


def _activate(encoder: Any, folder: Path, *names: str) -> None:
    path = folder / "A.safetensors"
    save_file({f"bundle_emb.{name}.clip_l": torch.ones(2, 8) * number for number, name in enumerate(names)}, path)
    on_disk = types.SimpleNamespace(filename=str(path))
    encoder.networks.loaded_networks[:] = [types.SimpleNamespace(name="A", mentioned_name="A", network_on_disk=on_disk)]


def test_names_are_found_in_prompts_also_where_they_touch_punctuation(encoder: Any, tmp_path: Path) -> None:
    _activate(encoder, tmp_path, "<s0>")
    (tokens,) = encoder.tokenize(["<s0>,"])
    assert tokens == [40_000 + ord(letter) for letter in "<s0> ,"]
    found, length = encoder.store.find_embedding_at_position(tokens, 0)
    assert (found.name, length) == ("<s0>", 4)
    assert encoder.store.find_embedding_at_position(tokens, 1) == (None, None)


def test_the_table_is_built_below_our_own_hooks(encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else building it would ask for the table that is being built."""
    _activate(encoder, tmp_path, "<s0>", "<s1>")
    names = _names()
    asked: list[str] = []
    monkeypatch.setattr(names, "current", lambda: asked.append("current"))
    assert len(names.sync().entries) == 4
    assert asked == []


def test_the_bundle_tools_see_a_text_as_it_is(encoder: Any, tmp_path: Path) -> None:
    _activate(encoder, tmp_path, "<s0>")
    _names().sync()
    tokenize = WebuiBundleTools().tokenizer()
    assert tokenize is not None
    assert tokenize("<s0>,") == [40_000 + ord(letter) for letter in "<s0>,"]
    uninstall()
    assert WebuiBundleTools().tokenizer() is None
