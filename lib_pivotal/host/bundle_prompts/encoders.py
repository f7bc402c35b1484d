"""The text encoders of the loaded model: their widths, and the token ids of names."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib_pivotal.host.bundle_prompts.webui_symbols import engines_of

__all__ = ["Encoders", "LiveEncoders"]

Run = tuple[int, ...]
Tokenize = Callable[[list[str]], list[list[int]]]
_NAMES_KEPT = 4096


class Encoders:
    """What the table of names needs to know about a model.

    Args:
        widths: encoder key → width of its token vectors.
        tokenizers: gives the tokenizers of the encoders, and an empty list when the model is gone.
    """

    def __init__(self, widths: Mapping[str, int], tokenizers: Callable[[], Sequence[Tokenize]]) -> None:
        self.widths = widths
        self._tokenizers = tokenizers
        self._runs: dict[str, tuple[Run, ...]] = {}

    def are_live(self) -> bool:
        """Whether the model still has the encoders that were found in it."""
        return bool(self._tokenizers())

    def runs(self, name: str) -> tuple[Run, ...]:
        """Token runs of a name, one for each tokenizer that sees it differently.

        Two tokenizers of one model agree on ASCII, but not always on other letters.
        """
        known = self._runs.get(name)
        if known is None:
            found = (tuple(int(number) for number in tokenize([name])[0]) for tokenize in self._tokenizers())
            known = tuple(dict.fromkeys(run for run in found if run))
            if len(self._runs) >= _NAMES_KEPT:
                self._runs.clear()
            self._runs[name] = known
        return known


class LiveEncoders:
    """Finds the text encoders of the model that is loaded now.

    Args:
        tokenize: token ids of texts by one of the model's encoders, without start and end.
    """

    def __init__(self, tokenize: Callable[[Any, list[str]], list[list[int]]]) -> None:
        self._tokenize = tokenize
        self._known: weakref.WeakKeyDictionary[Any, Encoders] = weakref.WeakKeyDictionary()
        self._without: weakref.WeakKeyDictionary[Any, tuple[int, ...]] = weakref.WeakKeyDictionary()
        """Models without such encoders, with the parts that they had when that was found."""

    def __call__(self) -> Encoders | None:
        """The encoders, or None while no model is loaded; the same object as long as the model keeps them.

        Host: modules/sd_models.py, ``model_data.sd_model``, A1111 1.6.1-1.10.1: ``shared.sd_model`` would load one.
        Host: modules/sd_hijack.py, ``EmbeddingsWithFixes.textual_inversion_key``, A1111 1.6.1-1.10.1: the key under
            which an encoder looks for its vectors; ``embedding_db.expected_shape`` may belong to another model.
        Host: modules/sd_hijack.py, ``hijack`` and ``undo_hijack``, A1111 1.6.1-1.10.1: exchange the encoders inside
            SDXL's conditioner, but not the conditioner, whenever weights are loaded into the same model.
        Host: backend/diffusion_engine/base.py, ``ForgeDiffusionEngine``, Forge: no module; in Forge-Neo it has
            ``cond_stage_model``, whose modules do not cut prompts into tokens.
        """
        from modules import sd_models

        model = sd_models.model_data.sd_model
        root = getattr(model, "cond_stage_model", None)
        has_engines = hasattr(model, "forge_objects") and not hasattr(model, "modules")
        is_tree = hasattr(root, "modules") and not has_engines
        owner = root if is_tree else model
        if owner is None:
            return None
        known = self._known.get(owner)
        if known is not None and known.are_live():
            return known
        # This is called for every token of a prompt, and some models have thousands of modules without an encoder.
        parts = _upper_parts(owner) if is_tree else ()
        if is_tree and self._without.get(owner) == parts:
            return None
        found = self._in_tree(owner) if is_tree else self._in_engines(engines_of(owner))
        if found is not None:
            self._known[owner] = found
        elif is_tree:
            self._without[owner] = parts
        return found

    def _in_engines(self, engines: list[Any]) -> Encoders | None:
        """Forge: one engine per encoder.

        Host: backend/text_processing/classic_engine.py, ``embedding_key`` and ``text_encoder``, Forge.
        """
        if not engines:
            return None
        tables = [engine.text_encoder.transformer.text_model.embeddings.token_embedding for engine in engines]
        widths = {
            engine.embedding_key: int(table.weight.shape[1]) for engine, table in zip(engines, tables, strict=True)
        }
        return self._weakly(widths, engines)

    def _in_tree(self, root: Any) -> Encoders | None:
        widths: dict[str, int] = {}
        encoders = []
        for module in root.modules():
            key = getattr(module, "textual_inversion_key", None)
            weight = getattr(getattr(module, "wrapped", None), "weight", None)
            if key is not None and weight is not None:
                widths[key] = int(weight.shape[1])
            # Only the wrappers of the encoders have both; SDXL's conditioner passes ``tokenize`` on to the first one.
            if hasattr(module, "tokenize_line") and hasattr(module, "tokenize"):
                encoders.append(module)
        return self._weakly(widths, encoders) if widths and encoders else None

    def _weakly(self, widths: dict[str, int], encoders: list[Any]) -> Encoders:
        """The encoders with weak references, which do not keep the model in memory."""
        references = [weakref.ref(encoder) for encoder in encoders]

        def tokenizer(encoder: Any) -> Tokenize:
            return lambda texts: self._tokenize(encoder, texts)

        def tokenizers() -> list[Tokenize]:
            live = [reference() for reference in references]
            return [] if None in live else [tokenizer(encoder) for encoder in live]

        return Encoders(widths, tokenizers)


def _upper_parts(root: Any) -> tuple[int, ...]:
    """Changes when the webui replaces an encoder: encoders are one or two levels below the root."""
    return tuple(id(part) for child in root.children() for part in (child, *child.children()))
