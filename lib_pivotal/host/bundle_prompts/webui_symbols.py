"""Where each kind of webui keeps its embeddings and cuts prompts into tokens."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["common_store", "engines_of", "live_stores", "store_module", "tokenizing_classes"]

_TOKENIZING = (
    ("modules.sd_hijack_clip", "FrozenCLIPEmbedderWithCustomWords"),
    ("modules.sd_hijack_open_clip", "FrozenOpenCLIPEmbedderWithCustomWords"),
    ("modules.sd_hijack_open_clip", "FrozenOpenCLIPEmbedder2WithCustomWords"),
    ("backend.text_processing.classic_engine", "ClassicTextProcessingEngine"),
    ("backend.text_processing.sd_engine", "ClipEngine"),
)
"""Host: the classes whose ``tokenize`` gets the prompts: A1111 1.6.1-1.10.1, old Forge, reForge and Forge-classic (the
first three), Forge since August 2024 (the fourth), Forge-Neo of 2026 (the last)."""


def store_module() -> Any:
    """The module with the webui's classes ``Embedding`` and ``EmbeddingDatabase``.

    Host: backend/text_processing/textual_inversion.py, ``EmbeddingDatabase``, Forge: prompts use this copy there; the
        one in ``modules`` only fills the page.
    """
    backend = _module("backend.text_processing.textual_inversion")
    return backend if backend is not None else importlib.import_module("modules.textual_inversion.textual_inversion")


def tokenizing_classes() -> list[type]:
    """This webui's classes that have their own ``tokenize``, which gets the prompts."""
    found = [getattr(_module(module), name, None) for module, name in _TOKENIZING]
    return [owner for owner in found if owner is not None and "tokenize" in vars(owner)]


def engines_of(model: Any) -> list[Any]:
    """Forge's text engines of a model that use CLIP, one per encoder; empty in every other webui.

    Host: backend/text_processing/classic_engine.py, ``ClassicTextProcessingEngine``, Forge: attributes of the model
        object, whose names differ from family to family.
    """
    parts = getattr(model, "__dict__", {}).values()
    return [part for part in parts if hasattr(part, "embedding_key") and hasattr(part, "embeddings")]


def common_store() -> Any:
    """The webui's store of embeddings for all models and encoders, or None if there is none.

    Host: modules/sd_hijack.py, ``model_hijack.embedding_db``, A1111 1.6.1-1.10.1, old Forge, reForge, Forge-classic:
        one for all. Forge since August 2024 has one per text engine instead, and Forge-Neo has no such module.
    """
    return getattr(getattr(_module("modules.sd_hijack"), "model_hijack", None), "embedding_db", None)


def live_stores() -> list[Any]:
    """The stores of embeddings in which the webui looks for names now."""
    from modules import sd_models

    store = common_store()
    if store is not None:
        return [store]
    return [engine.embeddings for engine in engines_of(sd_models.model_data.sd_model)]


def _module(name: str) -> Any:
    """A module of the webui, or None if it has no such module."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None
