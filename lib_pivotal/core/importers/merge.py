"""Puts imported settings into existing ones."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from lib_pivotal.core.bundle.names import token_key
from lib_pivotal.core.config.schema import LISTS, Concept, TrainConfig
from lib_pivotal.core.importers.found import ImportResult

__all__ = ["merged"]


def merged(existing: TrainConfig, imported: ImportResult) -> TrainConfig:
    """The existing settings, completed with imported ones: an existing value that is not the default stays.

    Concepts with the same name become one; subsets of the same folder stay as they are.

    Args:
        existing: settings.
        imported: what to add.
    """
    default, config = TrainConfig(), imported.config
    values: dict[str, Any] = {
        name: getattr(config, name)
        for name in imported.given - set(LISTS)
        if getattr(existing, name) == getattr(default, name)
    }
    folders = {subset.folder for subset in existing.subsets}
    values["subsets"] = (*existing.subsets, *(subset for subset in config.subsets if subset.folder not in folders))
    values["concepts"] = _concepts(existing.concepts, config.concepts)
    return replace(existing, **values)


def _concepts(existing: tuple[Concept, ...], imported: tuple[Concept, ...]) -> tuple[Concept, ...]:
    additions = {token_key(concept.name): concept for concept in imported}
    both = [_completed(concept, additions.pop(token_key(concept.name), concept)) for concept in existing]
    return (*both, *additions.values())


def _completed(concept: Concept, addition: Concept) -> Concept:
    default = Concept()
    missing = [item.name for item in fields(Concept) if getattr(concept, item.name) == getattr(default, item.name)]
    return replace(concept, **{name: getattr(addition, name) for name in missing})
