"""What the buttons for core tags do; inputs and outputs are passed by name."""

from __future__ import annotations

import json
from typing import Any

from lib_pivotal.app.core_tag_choice import CoreTags, choose_core_tags
from lib_pivotal.app.session import Session
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.ui import panels
from lib_pivotal.ui.blocks.images import PREFIX
from lib_pivotal.ui.core_tag_view import show_core_tags
from lib_pivotal.ui.fields import SUBSETS, in_rows, read_config, settings_of, show_config
from lib_pivotal.ui.listener import Outputs, Values
from lib_pivotal.ui.text.images import IMAGE_MESSAGES

__all__ = ["CHOICE", "CORE_TAGS", "CoreTagHandlers", "concept_fields"]

CORE_TAGS = (f"{PREFIX}notice", f"{PREFIX}core_tags", f"{PREFIX}ticks")
"""Outputs that show core tags."""
CHOICE = (f"{PREFIX}ticks", f"{PREFIX}replaces_text")
"""Inputs that choose core tags."""


class CoreTagHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        session: knows the webui.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_tags(self, values: Values) -> Outputs:
        """Suggest core tags for the settings on the tab."""
        return _show(self._core_tags(values, None))

    def update_tags(self, values: Values) -> Outputs:
        """Show captions and initialization texts with the ticked core tags."""
        chosen = _ticks(values)
        if chosen is None:
            return {f"{PREFIX}notice": panels.show_message(IMAGE_MESSAGES["tags_first"])}
        return _show(self._core_tags(values, chosen))

    def use_tags(self, values: Values) -> Outputs:
        """Fill the ticked core tags and their initialization texts into the settings on the tab."""
        chosen = _ticks(values)
        if chosen is None:
            return {f"{PREFIX}notice": panels.show_message(IMAGE_MESSAGES["tags_first"])}
        found = self._core_tags(values, chosen)
        config = found.applied(replaces_text=bool(values[f"{PREFIX}replaces_text"]))
        shown = show_config(config)
        notice = panels.show_message(IMAGE_MESSAGES["tags_used"], "good")
        return {**_show(found), **{name: shown[name] for name in concept_fields()}, f"{PREFIX}notice": notice}

    def _core_tags(self, values: Values, chosen: dict[str, list[str]] | None) -> CoreTags:
        config, _ = read_config(values)
        try:
            return choose_core_tags(self._session.host, config, chosen)
        except ConfigError as error:
            raise ConfigError(in_rows(error.problems, values)) from error


def concept_fields() -> list[str]:
    """Names of the components that hold the concepts."""
    others = {*settings_of("", "basic", "advanced", "expert"), SUBSETS}
    return [name for name in show_config(TrainConfig()) if name not in others]


def _show(found: CoreTags) -> Outputs:
    return {
        f"{PREFIX}notice": "",
        f"{PREFIX}core_tags": show_core_tags(found),
        f"{PREFIX}ticks": json.dumps(found.in_use),
    }


def _ticks(values: Values) -> dict[str, list[str]] | None:
    """Concept → ticked tags; None if the table has not been shown."""
    try:
        given: Any = json.loads(values[f"{PREFIX}ticks"] or "null")
    except ValueError:
        return None
    if not isinstance(given, dict):
        return None
    return {name: [str(tag) for tag in tags] for name, tags in given.items() if isinstance(tags, list)}
