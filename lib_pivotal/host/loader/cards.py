"""Cards of LoRAs and their editor name the embeddings inside; the page of embeddings does not break."""

from __future__ import annotations

import html
import sys
from typing import Any

from lib_pivotal.host.loader.hooks import Hooks, guarded
from lib_pivotal.host.loader.index import names_in
from lib_pivotal.host.loader.settings import read_settings

__all__ = ["add_card_hooks"]


def add_card_hooks(hooks: Hooks) -> None:
    """Let cards show and insert the names of bundled embeddings.

    Args:
        hooks: takes the hooks.

    Host: extensions-builtin/Lora/ui_extra_networks_lora.py, ``ExtraNetworksPageLora.create_item``, and
        ui_edit_user_metadata.py, ``LoraUserMetadataEditor.get_metadata_table``, A1111 1.6.1-1.10.1, Forge, reForge:
        imported under bare names; ``prompt`` of a card is a JavaScript expression.
    Host: modules/ui_extra_networks_textual_inversion.py, ``create_item``, A1111 1.8-1.10.1: fails for embeddings
        without a file, which the webui's own handling of bundles registers, and with it every page of cards.
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
    from modules import shared, ui_extra_networks

    names = [name for name, _ in names_in(str(item["filename"]))]
    if not names:
        return
    text = ", ".join(names)
    is_html = bool(shared.opts.data.get("extra_networks_card_description_is_html", False))
    line = "Embeddings: " + (html.escape(text) if is_html else text)
    item["description"] = "\n".join(part for part in (item.get("description"), line) if part)
    if isinstance(item.get("search_terms"), list):
        item["search_terms"].append(text)
    elif isinstance(item.get("search_term"), str):
        item["search_term"] += " " + text
    # A text of the user's own says what he wants inserted.
    if not (item.get("user_metadata") or {}).get("activation text"):
        item["prompt"] += " + " + ui_extra_networks.quote_js(" " + text)


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
    from modules import sd_hijack

    known = sd_hijack.model_hijack.embedding_db.word_embeddings.get(name)
    if known is not None and not getattr(known, "filename", None):
        return None
    return original(page, name, *arguments, **options)
