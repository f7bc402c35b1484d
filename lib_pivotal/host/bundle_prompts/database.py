"""The webui's store of embeddings: results of look-ups, and embeddings in the form that the webui needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lib_pivotal.core.bundle.embeddings import BundledEmbedding
from lib_pivotal.host.bundle_prompts.webui_symbols import store_module

__all__ = ["HostEmbeddings", "installed_name"]

_KEPT = 512


class HostEmbeddings:
    """Makes the webui's kind of object for a bundled embedding, and keeps it.

    Host: textual_inversion.py, ``Embedding``, A1111 1.6.1-1.10.1, Forge, reForge: encoding reads ``vec`` (a tensor, or
        one by encoder key), ``vectors``, ``name`` and, in all but Forge, ``shorthash``.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, tuple[str, ...], str], Any] = {}

    def get(self, name: str, embedding: BundledEmbedding, widths: Mapping[str, int]) -> Any:
        """The object for an embedding under a name, on the webui's device.

        Args:
            name: as prompts have it; the webui writes it into the infotext of the image.
            embedding: vectors by encoder, ``(n, width)`` each.
            widths: encoder key → width of the loaded model.
        """
        from modules import devices

        device = devices.device
        key = (name, embedding.hash, tuple(widths), str(device))
        if key in self._known:
            return self._known[key]
        if len(self._known) >= _KEPT:
            self._known.clear()
        vec: Any = {encoder: value.to(device, torch.float32) for encoder, value in embedding.encoders.items()}
        if len(widths) == 1 and len(vec) == 1:
            # A model with one encoder takes the tensor itself, whatever the encoder is called in the file.
            vec = next(iter(vec.values()))
        made = store_module().Embedding(vec, name)
        made.vectors = embedding.vector_count
        made.shape = sum(int(value.shape[1]) for value in embedding.encoders.values())
        made.shorthash = embedding.hash
        self._known[key] = made
        return made


def installed_name(found: tuple[Any, Any], run: Sequence[int]) -> str:
    """Name of the installed embedding that the webui found for a token run, or an empty text.

    Args:
        found: the webui's answer: embedding and length in tokens, both None for none.
        run: the run that was looked up.

    Host: textual_inversion.py, ``find_embedding_at_position``, A1111 1.6.1-1.10.1: embeddings that the webui itself
        takes out of a LoRA have no ``filename``.
    """
    embedding, length = found
    if embedding is None or length != len(run) or not getattr(embedding, "filename", None):
        return ""
    return str(embedding.name)
