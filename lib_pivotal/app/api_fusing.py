"""What the routes of the HTTP API about fusing bundles do; see docs/api.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lib_pivotal.app.api_answers import Refused
from lib_pivotal.app.fusing import fusing_for, read_fuse_choices
from lib_pivotal.app.session import Session

__all__ = ["GETS", "POSTS", "POSTS_WITHOUT_BODY"]


def _status(session: Session, _query: Mapping[str, str]) -> dict[str, Any]:
    return fusing_for(session).status()


def _start(session: Session, body: Any) -> dict[str, Any]:
    return {"task_id": fusing_for(session).start(read_fuse_choices(body))}


def _stop(session: Session, _body: Any) -> dict[str, Any]:
    if not fusing_for(session).stop():
        raise Refused(409, "No bundles are being fused.", "Start that first.")
    return {"ok": True}


GETS: dict[str, Callable[[Session, Mapping[str, str]], dict[str, Any]]] = {"fuse": _status}
"""Route → what it does with the parameters of the address."""

POSTS: dict[str, Callable[[Session, Any], dict[str, Any]]] = {"fuse": _start}
"""Route → what it does with the body."""

POSTS_WITHOUT_BODY: dict[str, Callable[[Session, Any], dict[str, Any]]] = {"fuse_stop": _stop}
"""Route → what it does; a body is not needed."""
