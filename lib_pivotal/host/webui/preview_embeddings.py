"""Embeddings that are being trained, made known to the webui's prompts for the time of a preview."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.ports import LiveEmbeddings

__all__ = ["installed_names", "registered"]

_live: list[Any] = []
"""The embeddings that are registered for a preview now."""


def installed_names(store: Any) -> dict[str, str]:
    """Names of the installed embeddings in one of the webui's stores, lower case → file name.

    Embeddings from a LoRA file are left out, since the names of an earlier bundle may be trained again, and so are
    those of a preview that is being made now: Check and the table of concepts may ask meanwhile.

    Host: modules/textual_inversion/textual_inversion.py, ``word_embeddings``, A1111 1.6.1-1.10.1, and
        backend/text_processing/textual_inversion.py, Forge: embeddings from a bundle have no ``filename``.
    """
    known = list(store.word_embeddings.items())
    return {
        name.lower(): Path(embedding.filename).name
        for name, embedding in known
        if getattr(embedding, "filename", None) and not any(embedding is live for live in _live)
    }


@contextlib.contextmanager
def registered(
    stores: Sequence[Any],
    embeddings: LiveEmbeddings,
    tokenize: Callable[[list[str]], Sequence[Sequence[int]]],
    make: Callable[[Any, str], Any],
    model: Sequence[Any] = (),
    device: torch.device | None = None,
) -> Iterator[None]:
    """Within the context ``embeddings`` work in prompts; installed ones with the same name are set aside.

    Args:
        stores: the webui's stores of embeddings, one for all encoders or one for each.
        embeddings: to register.
        tokenize: the webui's tokenizer.
        make: the webui's class ``Embedding``; takes vectors and name.
        model: what the stores' functions take in addition: A1111's the model, Forge's nothing.
        device: where the vectors must be; None leaves them where they are.

    Host: modules/sd_hijack.py, ``EmbeddingsWithFixes``, A1111 1.6.1-1.10.1, reForge: joins them with those of the words
        without moving them; Forge moves them.
    Host: modules/textual_inversion/textual_inversion.py, ``Embedding``, A1111 1.6.1-1.10.1, and
        backend/text_processing/textual_inversion.py, Forge: one that is not loaded from a file must be given
        ``vectors`` (with 0 the name disappears from the prompt) and ``filename`` (None breaks the page of cards).
    """
    aside: list[tuple[Any, Any]] = []
    ours: list[tuple[Any, Any]] = []
    try:
        for name, parts in embeddings.items():
            ids = tokenize([name])[0]
            embedding = _embedding(name, parts, make, device)
            for store in stores:
                for other_ids, other in list(store.ids_lookup.get(ids[0], [])):
                    if list(other_ids) == list(ids):
                        aside.append((store, other))
                        store.register_embedding_by_name(None, *model, other.name)
                ours.append((store, embedding))
                _live.append(embedding)
                store.register_embedding(embedding, *model)
        yield
    finally:
        for store, embedding in ours:
            if store.word_embeddings.get(embedding.name) is embedding:
                store.register_embedding_by_name(None, *model, embedding.name)
            _live.remove(embedding)
        for store, other in aside:
            if other.name not in store.word_embeddings:
                store.register_embedding(other, *model)


def _embedding(name: str, parts: Any, make: Callable[[Any, str], Any], device: torch.device | None) -> Any:
    vectors = {
        encoder: values.detach().to(device or values.device, torch.float32, copy=True)
        for encoder, values in parts.items()
    }
    first = next(iter(vectors.values()))
    # For a model with one encoder the webui expects the tensor itself.
    embedding = make(vectors if len(vectors) > 1 else first, name)
    embedding.vectors = len(first)
    embedding.shape = sum(values.shape[1] for values in vectors.values())
    embedding.filename = f"{name}.safetensors"
    return embedding
