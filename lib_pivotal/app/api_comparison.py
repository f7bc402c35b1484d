"""What the routes of the HTTP API about comparing the parts of a bundle do; see docs/api.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lib_pivotal.app.api_answers import Refused
from lib_pivotal.app.comparison import comparison_for
from lib_pivotal.app.comparison_plan import read_choices
from lib_pivotal.app.session import Session

__all__ = ["GETS", "POSTS_WITHOUT_BODY"]


def _status(session: Session, _query: Mapping[str, str]) -> dict[str, Any]:
    return comparison_for(session).status()


def _start(session: Session, body: Any) -> dict[str, Any]:
    return {"task_id": comparison_for(session).start(read_choices(body))}


def _stop(session: Session, _body: Any) -> dict[str, Any]:
    if not comparison_for(session).stop():
        raise Refused(409, "No comparison is being made.", "Start one first.")
    return {"ok": True}


GETS: dict[str, Callable[[Session, Mapping[str, str]], dict[str, Any]]] = {"compare": _status}
"""Route → what it does with the parameters of the address."""

POSTS_WITHOUT_BODY: dict[str, Callable[[Session, Any], dict[str, Any]]] = {"compare": _start, "compare_stop": _stop}
"""Route → what it does with the body; without one they get an empty object."""
