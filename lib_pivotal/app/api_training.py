"""What the routes of the HTTP API about settings, images and the current run do; see docs/api.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lib_pivotal.app.api_answers import Refused, as_dicts
from lib_pivotal.app.caption_look import caption_preview, core_tags
from lib_pivotal.app.request_body import read_body
from lib_pivotal.app.session import Session
from lib_pivotal.app.settings_sources import import_from
from lib_pivotal.core.config.io import from_dict, read_dict, to_dict
from lib_pivotal.core.config.presets import filled_in
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["GETS", "POSTS", "POSTS_WITHOUT_BODY"]


def _check(session: Session, body: Any) -> dict[str, Any]:
    try:
        problems = session.check(*read_dict(body))
    except ConfigError as error:
        problems = error.problems
    return {"ok": not any(problem.is_error for problem in problems), "problems": as_dicts(problems)}


def _report(session: Session, body: Any) -> dict[str, Any]:
    checked = session.checked(*read_dict(body))
    if checked.table is None:
        raise ConfigError([problem for problem in checked.problems if problem.is_error])
    memory = None if checked.memory is None else checked.memory.as_dict()
    return {**checked.table.as_dict(), "memory": memory, "problems": as_dicts(checked.problems)}


def _use_preset(session: Session, body: Any) -> dict[str, Any]:
    name = body.get("preset") if isinstance(body, Mapping) else None
    if not isinstance(name, str):
        hint = 'Send {"preset": "NAME", "config": {…}}; GET lists the names.'
        raise ConfigError([Problem("preset", "error", "The request names no preset.", hint)])
    return {"config": to_dict(from_dict(filled_in(body.get("config", {}), session.presets.find(name))))}


def _start(session: Session, body: Any) -> dict[str, Any]:
    task_id = session.start(*read_dict(body))
    return {"task_id": task_id, "run_folder": session.status()["run_folder"]}


def _stop(session: Session, body: Any) -> dict[str, Any]:
    discard = body.get("discard", False) if isinstance(body, Mapping) else None
    if not isinstance(discard, bool):
        raise ConfigError([Problem("discard", "error", "It must be true or false.", 'Send {"discard": false}.')])
    return _require_run(session.stop(discard=discard))


def _core_tags(session: Session, body: Any) -> dict[str, Any]:
    return core_tags(session.host, from_dict(body))


def _presets(session: Session, _query: Mapping[str, str]) -> dict[str, Any]:
    return {"presets": [preset.as_dict() for preset in session.presets.all()[0]]}


def _captions(session: Session, body: Any) -> dict[str, Any]:
    read_body(body, {"config": dict, "step": int, "image": str, "count": int}, "config")
    config, found = read_dict(body["config"])
    if any(problem.is_error for problem in found):
        raise ConfigError(found)
    return caption_preview(session.host, config, **{name: value for name, value in body.items() if name != "config"})


def _import(session: Session, body: Any) -> dict[str, Any]:
    path = body.get("path") if isinstance(body, Mapping) else None
    if not isinstance(path, str):
        raise ConfigError([Problem("path", "error", "It must be a string.", 'Send {"path": "…"}.')])
    result = import_from(session.host, path)
    return {
        "kind": result.kind,
        "config": to_dict(result.config),
        "unused": list(result.unused),
        "problems": as_dicts(result.problems),
    }


def _require_run(was_active: bool) -> dict[str, Any]:
    if not was_active:
        raise Refused(409, "No training in progress.", "Start training first.")
    return {"ok": True}


GETS: dict[str, Callable[[Session, Mapping[str, str]], dict[str, Any]]] = {"presets": _presets}
"""Route → what it does with the parameters of the address."""

POSTS: dict[str, Callable[[Session, Any], dict[str, Any]]] = {
    "check": _check,
    "data_report": _report,
    "core_tags": _core_tags,
    "captions": _captions,
    "presets": _use_preset,
    "train": _start,
    "import": _import,
}
"""Route → what it does with the body."""

POSTS_WITHOUT_BODY: dict[str, Callable[[Session, Any], dict[str, Any]]] = {
    "stop": _stop,
    "save": lambda session, _: _require_run(session.save_now()),
    "sample": lambda session, _: _require_run(session.sample_now()),
}
"""Like :data:`POSTS`; without a body they get an empty object."""
