"""Shows embeddings on the cards of LoRAs and in their editor, and keeps the embeddings page from breaking."""

from __future__ import annotations

import html
import sys
from typing import Any

from lib_pivotal.core.bundle.metadata import bundled_core_tags
from lib_pivotal.core.prompt_names.names import as_written
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.index import names_in
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.webui_symbols import common_store
from lib_pivotal.host.webui.quirks import escapes_card_descriptions

__all__ = ["add_card_hooks"]


def add_card_hooks(hooks: Hooks) -> None:
    """Make cards show and insert the names of bundled embeddings.

    Args:
        hooks: takes the hooks.

    Host: extensions-builtin/Lora/ui_extra_networks_lora.py, ``ExtraNetworksPageLora.create_item``, and
        ui_edit_user_metadata.py, ``LoraUserMetadataEditor.get_metadata_table``, A1111 1.6.1-1.10.1, Forge, reForge:
        imported under top-level names; ``prompt`` of a card is a JavaScript expression, ``metadata`` that of the file.
    Host: modules/ui_extra_networks_textual_inversion.py, ``create_item``, A1111 1.8-1.10.1: fails for embeddings
        without a file, which the webui's own handling of bundles registers, and with it every page of cards.
    Host: modules/ui_extra_networks.py, ``create_item_html``, A1111 1.8-1.10.1, Forge, reForge, and its predecessor:
        search terms go into the page unescaped.
    """
    from modules import ui_extra_networks_textual_inversion as embeddings_page

    page = getattr(sys.modules.get("ui_extra_networks_lora"), "ExtraNetworksPageLora", None)
    editor = getattr(sys.modules.get("ui_edit_user_metadata"), "LoraUserMetadataEditor", None)
    if page is not None:
        hooks.wrap(page, "create_item", _create_item)
    if editor is not None:
        hooks.wrap(editor, "get_metadata_table", _metadata_table)
    hooks.wrap(embeddings_page.ExtraNetworksPageTextualInversion, "create_item", _create_embedding_item)


def _create_item(original: Any, page: Any, name: str, *arguments: Any, **options: Any) -> Any:
    item = original(page, name, *arguments, **options)
    if item is not None and read_settings().is_on:
        guarded("making a card", lambda: _add_names(item), None)
    return item


def _add_names(item: dict[str, Any]) -> None:
    from modules import ui_extra_networks

    names = [name for name, _ in names_in(str(item["filename"]))]
    if not names:
        return
    text = ", ".join(names)
    # The author of the file chose the names: they must never become part of the page's markup.
    safe = html.escape(text)
    lines = [f"Embeddings: {text}", *_core_tags(item, names)]
    shown = lines if escapes_card_descriptions() else map(html.escape, lines)
    item["description"] = "\n".join(part for part in (item.get("description"), *shown) if part)
    if isinstance(item.get("search_terms"), list):
        item["search_terms"].append(safe)
    elif isinstance(item.get("search_term"), str):
        item["search_term"] += " " + safe
    # The user's own activation text says what to insert.
    if not (item.get("user_metadata") or {}).get("activation text"):
        item["prompt"] += " + " + ui_extra_networks.quote_js(" " + ", ".join(map(as_written, names)))


def _core_tags(item: dict[str, Any], names: list[str]) -> list[str]:
    """A line per embedding with core tags, which help in prompts where the name alone is too weak."""
    found = bundled_core_tags(item.get("metadata") or {})
    return [f"Core tags of {name}: {', '.join(found[name])}" for name in names if name in found]


def _metadata_table(original: Any, editor: Any, name: str, *arguments: Any, **options: Any) -> Any:
    table = original(editor, name, *arguments, **options)
    guarded("filling the editor", lambda: _add_row(table, editor.page.items.get(name) or {}), None)
    return table


def _add_row(table: list[Any], item: dict[str, Any]) -> None:
    names = names_in(str(item["filename"])) if item.get("filename") else []
    if names:
        words = (f"{html.escape(name)} ({count} vector{'s' if count > 1 else ''})" for name, count in names)
        table.append(("Embeddings:", ", ".join(words)))


def _create_embedding_item(original: Any, page: Any, name: str, *arguments: Any, **options: Any) -> Any:
    if guarded("making a card", lambda: _has_no_file(name), False):
        return None
    return original(page, name, *arguments, **options)


def _has_no_file(name: str) -> bool:
    """Whether the webui itself took an embedding out of a LoRA."""
    store = common_store()
    known = store.word_embeddings.get(name) if store is not None else None
    return known is not None and not getattr(known, "filename", None)
