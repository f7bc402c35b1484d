"""The text encoders of the loaded model: their widths and their tokenizers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Encoders", "live_encoders"]

Run = tuple[int, ...]
_NAMES_KEPT = 4096


class Encoders:
    """What the table of names needs to know of a model.

    Args:
        widths: encoder key → width of its token vectors.
        tokenizers: gives the tokenizers of the encoders as long as the model lives, then an empty list.
    """

    def __init__(
        self, widths: Mapping[str, int], tokenizers: Callable[[], Sequence[Callable[[list[str]], list[list[int]]]]]
    ) -> None:
        self.widths = widths
        self._tokenizers = tokenizers
        self._runs: dict[str, tuple[Run, ...]] = {}

    def runs(self, name: str) -> tuple[Run, ...]:
        """Token runs of a name, one for each tokenizer that sees it differently.

        Two tokenizers of one model agree on ASCII, not always on other letters.
        """
        known = self._runs.get(name)
        if known is None:
            found = (tuple(int(number) for number in tokenize([name])[0]) for tokenize in self._tokenizers())
            known = tuple(dict.fromkeys(run for run in found if run))
            if len(self._runs) >= _NAMES_KEPT:
                self._runs.clear()
            self._runs[name] = known
        return known


_known: weakref.WeakKeyDictionary[Any, Encoders] = weakref.WeakKeyDictionary()


def live_encoders() -> Encoders | None:
    """Encoders of the model that is loaded now, or None while there is none.

    Host: modules/sd_models.py, ``model_data.sd_model``, A1111 1.6.1-1.10.1: ``shared.sd_model`` would load one.
    Host: modules/sd_hijack.py, ``EmbeddingsWithFixes.textual_inversion_key``, A1111 1.6.1-1.10.1: the key under
        which an encoder looks for its vectors; ``embedding_db.expected_shape`` may belong to another model.
    """
    from modules import sd_models

    root = getattr(sd_models.model_data.sd_model, "cond_stage_model", None)
    if root is None or not hasattr(root, "modules"):
        return None
    found = _known.get(root)
    if found is None:
        found = _look(root)
        if found is not None:
            _known[root] = found
    return found


def _look(root: Any) -> Encoders | None:
    widths: dict[str, int] = {}
    tokenizers = []
    for module in root.modules():
        key = getattr(module, "textual_inversion_key", None)
        weight = getattr(getattr(module, "wrapped", None), "weight", None)
        if key is not None and weight is not None:
            widths[key] = int(weight.shape[1])
        # The wrappers of the encoders have both; the conditioner of SDXL only hands on to the first of them.
        if hasattr(module, "tokenize_line") and hasattr(module, "tokenize"):
            tokenizers.append(weakref.ref(module))
    if not widths or not tokenizers:
        return None
    # Weak, or the model could never leave the memory.
    return Encoders(widths, lambda: [live.tokenize for live in (known() for known in tokenizers) if live is not None])
