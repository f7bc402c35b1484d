"""The text encoders of the loaded model: their widths and their tokenizers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib_pivotal.host.bundle_prompts.webui_symbols import engines_of

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

    def are_live(self) -> bool:
        """Whether the model still has the tokenizers that were found in it."""
        return bool(self._tokenizers())

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
_without: weakref.WeakKeyDictionary[Any, tuple[int, ...]] = weakref.WeakKeyDictionary()
"""Models in which nothing was found, as they were then."""


def live_encoders() -> Encoders | None:
    """Encoders of the model that is loaded now, or None while there is none.

    Host: modules/sd_models.py, ``model_data.sd_model``, A1111 1.6.1-1.10.1: ``shared.sd_model`` would load one.
    Host: modules/sd_hijack.py, ``EmbeddingsWithFixes.textual_inversion_key``, A1111 1.6.1-1.10.1: the key under
        which an encoder looks for its vectors; ``embedding_db.expected_shape`` may belong to another model.
    Host: modules/sd_hijack.py, ``hijack`` and ``undo_hijack``, A1111 1.6.1-1.10.1: exchange the encoders inside SDXL's
        conditioner, which itself stays, whenever weights are loaded into the same model.
    """
    from modules import sd_models

    model = sd_models.model_data.sd_model
    root = getattr(model, "cond_stage_model", None)
    is_tree = hasattr(root, "modules")
    owner = root if is_tree else model
    if owner is None:
        return None
    known = _known.get(owner)
    if known is not None and known.are_live():
        return known
    # Every token of a prompt asks, and some models have nothing for us in thousands of modules.
    parts = _upper_parts(owner) if is_tree else ()
    if is_tree and _without.get(owner) == parts:
        return None
    found = _look_into(owner) if is_tree else _look_at(engines_of(owner))
    if found is not None:
        _known[owner] = found
    elif is_tree:
        _without[owner] = parts
    return found


def _upper_parts(root: Any) -> tuple[int, ...]:
    """Differs when the webui has exchanged an encoder: those lie one or two levels below."""
    return tuple(id(part) for child in root.children() for part in (child, *child.children()))


def _look_at(engines: list[Any]) -> Encoders | None:
    """Forge: one engine an encoder.

    Host: backend/text_processing/classic_engine.py, ``embedding_key`` and ``text_encoder``, Forge.
    """
    if not engines:
        return None
    tables = [engine.text_encoder.transformer.text_model.embeddings.token_embedding for engine in engines]
    widths = {engine.embedding_key: int(table.weight.shape[1]) for engine, table in zip(engines, tables, strict=True)}
    return _weakly(widths, engines)


def _look_into(root: Any) -> Encoders | None:
    widths: dict[str, int] = {}
    tokenizers = []
    for module in root.modules():
        key = getattr(module, "textual_inversion_key", None)
        weight = getattr(getattr(module, "wrapped", None), "weight", None)
        if key is not None and weight is not None:
            widths[key] = int(weight.shape[1])
        # The wrappers of the encoders have both; the conditioner of SDXL only hands on to the first of them.
        if hasattr(module, "tokenize_line") and hasattr(module, "tokenize"):
            tokenizers.append(module)
    return _weakly(widths, tokenizers) if widths and tokenizers else None


def _weakly(widths: dict[str, int], tokenizing: list[Any]) -> Encoders:
    """Encoders that let the model leave the memory."""
    references = [weakref.ref(part) for part in tokenizing]

    def tokenizers() -> list[Callable[[list[str]], list[list[int]]]]:
        parts = [known() for known in references]
        return [] if None in parts else [part.tokenize for part in parts]

    return Encoders(widths, tokenizers)
