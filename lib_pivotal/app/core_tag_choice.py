"""Suggested core tags, and those of them that the user chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lib_pivotal.app.caption_look import core_tags
from lib_pivotal.app.ports import AppHost
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.data.caption_tags import plain_words

__all__ = ["CoreTags", "choose_core_tags"]


@dataclass(frozen=True)
class CoreTags:
    """Core tags to choose from.

    Attributes:
        report: see ``core.core_tags.report.as_plain``.
        in_use: concept → its chosen or suggested core tags.
        config: the settings with the chosen core tags.
    """

    report: dict[str, Any]
    in_use: dict[str, list[str]]
    config: TrainConfig

    def listed(self, concept: str) -> list[dict[str, Any]]:
        """The tags of a concept as in the report, each with ``is_used``; then other tags in use."""
        rows = next((item["tags"] for item in self.report["concepts"] if item["name"] == concept), [])
        used = {plain_words(tag): tag for tag in self.in_use.get(concept, [])}
        found = [{**row, "is_used": used.pop(plain_words(row["tag"]), None) is not None} for row in rows]
        return found + [{"tag": tag, "is_used": True} for tag in used.values()]

    def applied(self, *, replaces_text: bool) -> TrainConfig:
        """The settings with the core tags in use, and initialization texts made from them.

        Args:
            replaces_text: whether to replace initialization texts that are there.
        """
        texts = {item["name"]: item["init_text"] for item in self.report["concepts"]}

        def text(concept: Concept) -> str:
            is_wanted = replaces_text or not concept.init_text.strip()
            has_tags = self.in_use.get(concept.name)
            return texts.get(concept.name, "") or concept.init_text if is_wanted and has_tags else concept.init_text

        return replace(
            self.config,
            concepts=tuple(
                replace(item, core_tags=tuple(self.in_use.get(item.name, ())), init_text=text(item))
                for item in self.config.concepts
            ),
        )


def choose_core_tags(host: AppHost, config: TrainConfig, chosen: Mapping[str, Sequence[str]] | None = None) -> CoreTags:
    """Suggest core tags for the concepts of the settings.

    Args:
        host: the webui.
        config: the settings.
        chosen: concept → its core tags, instead of those in the settings or the suggested ones.

    Raises:
        ConfigError: the data set cannot be read.
    """
    if chosen is not None:
        concepts = [replace(item, core_tags=tuple(chosen.get(item.name, item.core_tags))) for item in config.concepts]
        config = replace(config, concepts=tuple(concepts))
    report = core_tags(host, config, is_chosen=chosen is not None)
    suggested = {item["name"]: item["core_tags"] for item in report["concepts"]}
    in_use = {
        item.name: list(item.core_tags) if item.core_tags or chosen is not None else suggested.get(item.name, [])
        for item in config.concepts
    }
    return CoreTags(report, in_use, config)
