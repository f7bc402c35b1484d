"""Cards with hostile names, in webuis that escape descriptions and in those that do not."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.host.bundle_prompts import cards
from lib_pivotal.host.bundle_prompts.index import names_of_tag
from tests.contract.fake_webui import FakeWebui

_HOSTILE = '<img src=x onerror="alert(1)">'
_OPTION = "extra_networks_card_description_is_html"


@pytest.fixture
def webui(monkeypatch: pytest.MonkeyPatch) -> FakeWebui:
    fake = FakeWebui(monkeypatch)
    fake.behave("cache", "cached_data_for_file", lambda _section, _title, _path, read: read())
    fake.behave(
        "ui_extra_networks", "quote_js", lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
    return fake


@pytest.fixture
def card(webui: FakeWebui, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(*names: str, **fields: Any) -> dict[str, Any]:
        path = tmp_path / "a.safetensors"
        save_file({f"bundle_emb.{name}.emb_params": torch.ones(1, 8) for name in names}, path)
        item = {"filename": str(path), "description": "<b>his own</b>", "prompt": '"<lora:a:1>"', **fields}
        return cards._create_item(lambda _page, _name: item, None, "a")

    return make


@pytest.mark.parametrize("field", ["search_terms", "search_term"])
def test_search_terms_are_never_markup(card: Callable[..., dict[str, Any]], field: str) -> None:
    item = card(_HOSTILE, **{field: ["/a"] if field == "search_terms" else "/a"})
    text = str(item[field])
    assert "/a" in text and "&lt;img" in text
    assert "<img" not in text


@pytest.mark.parametrize(
    ("known", "chosen", "escaped"),
    [(False, None, True), (True, None, False), (True, False, False), (True, True, True)],
    ids=["no such option", "option as shipped", "option off", "option on"],
)
def test_descriptions_are_escaped_once(
    webui: FakeWebui, card: Callable[..., dict[str, Any]], known: bool, chosen: bool | None, escaped: bool
) -> None:
    options = webui.modules["shared"].opts
    options.data_labels = {_OPTION: None} if known else {}
    options.data = {} if chosen is None else {_OPTION: chosen}
    described = card(_HOSTILE)["description"]
    assert described.startswith("<b>his own</b>\n")
    assert ("&lt;img" in described) is escaped
    assert ("<img" in described) is not escaped


def test_cards_show_core_tags(card: Callable[..., dict[str, Any]]) -> None:
    own = {"embeddings": {"zog": {"core_tags": ["red hair", _HOSTILE]}, "other": {"core_tags": ["x"]}}}
    for metadata in ({"pivotal_bundle": json.dumps(own)}, {"pivotal_bundle": own}):
        described = card("zog", metadata=metadata)["description"]
        assert "Core tags of zog: red hair, " in described and "other" not in described and "<img" not in described
    assert "Core tags" not in card("zog", metadata=None)["description"]


def test_cards_of_embeddings_work_where_there_is_no_common_store(webui: FakeWebui) -> None:
    webui.modules["sd_hijack"].model_hijack = types.SimpleNamespace()  # Forge since August 2024
    assert cards._create_embedding_item(lambda _page, name: name, None, "zog") == "zog"


def test_embeddings_that_the_webui_took_out_of_a_lora_have_no_card(webui: FakeWebui) -> None:
    known = webui.modules["sd_hijack"].model_hijack.embedding_db.word_embeddings
    known["zog"], known["file"] = types.SimpleNamespace(filename=None), types.SimpleNamespace(filename="file.pt")
    shown = [cards._create_embedding_item(lambda _page, name: name, None, name) for name in ("zog", "file", "new")]
    assert shown == [None, "file", "new"]


def test_a_click_inserts_brackets_that_are_only_letters(card: Callable[..., dict[str, Any]]) -> None:
    prompt = card("asuka (eva)", "b[c]")["prompt"]
    assert prompt == r'"<lora:a:1>" + " asuka \\(eva\\), b\\[c\\]"'


def test_cards_and_completion_know_embedding_files_next_to_a_lora(
    webui: FakeWebui, card: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    save_file({"clip_l": torch.ones(2, 8)}, tmp_path / "a_emb.safetensors")
    assert "<s1>" not in card("zog")["prompt"]
    webui.modules["shared"].opts.data["pivotal_loader_pairs"] = True
    assert "zog" in card("zog")["prompt"] and "<s1>" in card("zog")["prompt"]
    (tmp_path / "a_emb.safetensors").unlink()
    assert "<s1>" not in card("zog")["prompt"]


def test_completion_offers_nothing_for_a_file_that_has_gone(webui: FakeWebui, tmp_path: Path) -> None:
    """The webui lists its files only now and then."""

    def gone(_section: str, _title: str, path: str, _read: Any) -> Any:
        raise FileNotFoundError(path)

    networks = webui.modules["networks"]
    networks.available_networks = {"a": types.SimpleNamespace(filename=str(tmp_path / "a.safetensors"))}
    networks.available_network_aliases = networks.forbidden_network_aliases = {}
    webui.behave("cache", "cached_data_for_file", gone)
    assert names_of_tag("a:1") == []
