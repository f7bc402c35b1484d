"""Connects the table of concepts, its text, and the fields that take names from files."""

from __future__ import annotations

from typing import Any

from lib_pivotal.app.session import Session
from lib_pivotal.ui.blocks.concepts import ANSWER, ASK, NOTICE, PATH, REQUEST, TABLE
from lib_pivotal.ui.compat import javascript
from lib_pivotal.ui.concept_handlers import ConceptHandlers
from lib_pivotal.ui.concept_report import REPORT
from lib_pivotal.ui.concept_rows import AS_TEXT, CONCEPT_INPUTS, CONCEPTS
from lib_pivotal.ui.listener import Listener

__all__ = ["connect_concepts", "tell_report"]


def connect_concepts(parts: dict[str, Any], session: Session) -> None:
    """Connect the components.

    Args:
        parts: all components of the training part, by name.
        session: knows the webui.
    """
    handlers = ConceptHandlers(session)
    listen = Listener(parts, notice=NOTICE)
    outputs = [NOTICE, *CONCEPT_INPUTS]
    listen.on(parts[AS_TEXT].change, handlers.switch, CONCEPT_INPUTS, [*outputs, TABLE])
    asked = listen.on(parts[ASK].click, handlers.answer, [REQUEST], [ANSWER, NOTICE])
    _tell(asked.then, parts[ANSWER], "pivotalNamesServer.answer")
    listen("import_names", handlers.import_names, [PATH, *CONCEPT_INPUTS], outputs, spinner=True)
    listen("folder_names", handlers.folder_names, ["data_folder", *CONCEPT_INPUTS], outputs, spinner=True)
    _tell(parts[CONCEPTS].change, parts[CONCEPTS], "pivotalNames.update")


def tell_report(event: Any, parts: dict[str, Any]) -> None:
    """Give the report to the table after an event."""
    _tell(event.then, parts[REPORT], "pivotalNamesServer.report")


def _tell(event: Any, source: Any, function: str) -> None:
    code = f"(text) => {{ {function}(text); return []; }}"
    event(fn=None, inputs=[source], outputs=[], **javascript(code))
