"""Encodings that the webui keeps, and the hashes of embeddings that belong to them."""

from __future__ import annotations

from typing import Any

from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.webui.quirks import records_embedding_hashes

__all__ = ["add_cond_hooks"]

_TITLE = "TI hashes"
_KEPT = 16


def add_cond_hooks(hooks: Hooks, names: ActiveNames) -> None:
    """Make kept encodings depend on the bundles, and add the hashes of embeddings to images made from kept encodings.

    Args:
        hooks: takes the hooks.
        names: knows the active bundles.

    Host: modules/processing.py, ``cached_params``, A1111 1.6.1-1.10.1, Forge, reForge: the key of a kept encoding says
        nothing about files, so a LoRA that is trained again under its old name would not be used.
    Host: modules/processing.py, ``get_conds_with_caching``, A1111 1.6.1-1.10.1: hashes are recorded during encoding, so
        an image made from a kept encoding lacks them. Forge records none, and reForge keeps them with the encodings.
    """
    from modules import processing

    def cached_params(original: Any, task: Any, *arguments: Any, **options: Any) -> Any:
        params = original(task, *arguments, **options)
        extra = guarded("comparing bundles", names.cond_key, None)
        return params if extra is None else (*params, extra)

    hooks.wrap(processing.StableDiffusionProcessing, "cached_params", cached_params)
    if records_embedding_hashes():
        hooks.wrap(processing.StableDiffusionProcessing, "get_conds_with_caching", _HashKeeper().get_conds)


class _HashKeeper:
    """Remembers which hashes belong to which encoding."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, str]] = []

    def get_conds(self, original: Any, task: Any, *arguments: Any, **options: Any) -> Any:
        """Replaces ``get_conds_with_caching``."""
        before = guarded("recording hashes", self._take, "")
        conds = original(task, *arguments, **options)
        guarded("recording hashes", lambda: self._put_back(task, conds, before), None)
        return conds

    def _take(self) -> str:
        """Take out the hashes recorded so far in this generation, so that the webui starts with none."""
        from modules import sd_hijack

        return str(sd_hijack.model_hijack.extra_generation_params.pop(_TITLE, None) or "")

    def _put_back(self, task: Any, conds: Any, before: str) -> None:
        """Record the hashes of these encodings together with the earlier ones."""
        from modules import sd_hijack

        recorded = sd_hijack.model_hijack.extra_generation_params
        new = str(recorded.pop(_TITLE, None) or "")
        if new:
            self._known = [(kept, text) for kept, text in self._known if kept is not conds][-_KEPT:]
            self._known.append((conds, new))
        else:
            new = next((text for kept, text in self._known if kept is conds), "")
        # The webui puts the newest first.
        parts = [part for text in (new, before) for part in text.split(", ") if part]
        if parts:
            text = ", ".join(dict.fromkeys(parts))
            recorded[_TITLE] = text
            # The webui copies its records to the task before the prompts of a second pass are encoded.
            task.extra_generation_params[_TITLE] = text
