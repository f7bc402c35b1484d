"""Encodings that the webui keeps, and the hashes that belong to them."""

from __future__ import annotations

from typing import Any

from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.state import LoaderState

__all__ = ["add_cond_hooks"]

_TITLE = "TI hashes"
_KEPT = 16


def add_cond_hooks(hooks: Hooks, state: LoaderState) -> None:
    """Make kept encodings depend on the bundles, and pictures from kept encodings name their embeddings, too.

    Args:
        hooks: takes the hooks.
        state: knows the acting bundles.

    Host: modules/processing.py, ``cached_params``, A1111 1.6.1-1.10.1, Forge, reForge: the key of a kept encoding
        says nothing of files, so a LoRA trained anew under its old name would go unused.
    Host: modules/processing.py, ``get_conds_with_caching``, A1111 1.6.1-1.10.1: hashes are noted while encoding, so
        a picture made from a kept encoding lacks them.
    """
    from modules import processing, sd_hijack

    def cached_params(original: Any, task: Any, *arguments: Any, **options: Any) -> Any:
        params = original(task, *arguments, **options)
        extra = guarded("comparing bundles", state.cond_key, None)
        return params if extra is None else (*params, extra)

    hooks.wrap(processing.StableDiffusionProcessing, "cached_params", cached_params)
    # Forge has no such notes, and reForge keeps them with the encodings by itself.
    if hasattr(sd_hijack.model_hijack, "extra_generation_params"):
        hooks.wrap(processing.StableDiffusionProcessing, "get_conds_with_caching", _HashKeeper().get_conds)


class _HashKeeper:
    """Remembers which hashes went with which encoding."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, str]] = []

    def get_conds(self, original: Any, task: Any, *arguments: Any, **options: Any) -> Any:
        """In place of ``get_conds_with_caching``."""
        before = guarded("noting hashes", self._take, "")
        conds = original(task, *arguments, **options)
        guarded("noting hashes", lambda: self._give(task, conds, before), None)
        return conds

    def _take(self) -> str:
        """Hashes noted so far in this generation; the webui starts afresh."""
        from modules import sd_hijack

        return str(sd_hijack.model_hijack.extra_generation_params.pop(_TITLE, None) or "")

    def _give(self, task: Any, conds: Any, before: str) -> None:
        from modules import sd_hijack

        noted = sd_hijack.model_hijack.extra_generation_params
        fresh = str(noted.pop(_TITLE, None) or "")
        if fresh:
            self._known = [(kept, text) for kept, text in self._known if kept is not conds][-_KEPT:]
            self._known.append((conds, fresh))
        else:
            fresh = next((text for kept, text in self._known if kept is conds), "")
        # The webui sets the newest first.
        parts = [part for text in (fresh, before) for part in text.split(", ") if part]
        if parts:
            text = ", ".join(dict.fromkeys(parts))
            noted[_TITLE] = text
            # Encodings of a second pass come after the webui has copied its notes to the task.
            task.extra_generation_params[_TITLE] = text
