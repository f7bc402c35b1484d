"""What the routes of the HTTP API about past and waiting runs do; see docs/api.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lib_pivotal.app.request_body import read_body
from lib_pivotal.app.run_history import RunHistory
from lib_pivotal.app.run_length import plan_length
from lib_pivotal.app.session import Session
from lib_pivotal.core.config.io import from_dict, read_dict
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["GETS", "POSTS"]

_MAX_COUNT = 1000


def _list(session: Session, query: Mapping[str, str]) -> dict[str, Any]:
    count, first = (_number(query, name, otherwise) for name, otherwise in (("count", 50), ("first", 0)))
    history = RunHistory(session)
    return {"runs": history.summaries(min(count, _MAX_COUNT), first), "total": len(history.names())}


def _number(query: Mapping[str, str], name: str, otherwise: int) -> int:
    text = query.get(name, str(otherwise))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ConfigError([Problem(name, "error", "It must be a number from 0 on.", "Send ?count=50&first=0.")])
    return int(text)


def _one(session: Session, query: Mapping[str, str]) -> dict[str, Any]:
    return RunHistory(session).one(query["name"])


def _queue(session: Session, _query: Mapping[str, str]) -> dict[str, Any]:
    return session.queue.as_dict()


def _resume(session: Session, body: Any) -> dict[str, Any]:
    values = read_body(body, {"run": str, "steps": int, "config": dict}, "run")
    config = from_dict(values["config"]) if "config" in values else None
    steps = _positive(values.get("steps", 0), "steps")
    task_id = RunHistory(session).resume(values["run"], steps=steps, config=config)
    return {"task_id": task_id, "run_folder": session.status()["run_folder"]}


def _compare(session: Session, body: Any) -> dict[str, Any]:
    runs = read_body(body, {"runs": list}, "runs")["runs"]
    if len(runs) != 2 or not all(isinstance(name, str) for name in runs):
        raise ConfigError([Problem("runs", "error", "It must name two runs.", 'Send {"runs": ["…", "…"]}.')])
    return RunHistory(session).compare(*runs)


def _choose_step(session: Session, body: Any) -> dict[str, Any]:
    values = read_body(body, {"run": str, "step": int, "overwrite": bool}, "run")
    path = RunHistory(session).choose_step(
        values["run"], values.get("step", 0), overwrite=values.get("overwrite", False)
    )
    return {"path": str(path)}


def _delete_states(session: Session, body: Any) -> dict[str, Any]:
    return {"freed_bytes": RunHistory(session).delete_states(read_body(body, {"run": str}, "run")["run"])}


def _delete_steps(session: Session, body: Any) -> dict[str, Any]:
    return {"freed_bytes": RunHistory(session).delete_steps(read_body(body, {"run": str}, "run")["run"])}


def _length(session: Session, body: Any) -> dict[str, Any]:
    return plan_length(session, from_dict(body)).as_dict()


def _change_queue(session: Session, body: Any) -> dict[str, Any]:
    known = {"action": str, "config": dict, "run": str, "steps": int, "id": str, "by": int}
    values = read_body(body, known, "action")
    action = _ACTIONS.get(values["action"])
    if action is None:
        hint = f"Use {', '.join(_ACTIONS)}."
        raise ConfigError([Problem("action", "error", "There is no such action.", hint)])
    action(session, values)
    return session.queue.as_dict()


def _add(session: Session, values: Mapping[str, Any]) -> None:
    if "run" not in values:
        session.queue.add(*read_dict(values.get("config", {})))
        return
    history = RunHistory(session)
    given = from_dict(values["config"]) if "config" in values else None
    config, problems = history.resumed_config(values["run"], _positive(values.get("steps", 0), "steps"), given)
    session.queue.add(config, problems, resume=history.folder(values["run"]))


def _positive(value: int, field: str) -> int:
    if value < 0:
        raise ConfigError([Problem(field, "error", f"{value} is out of range.", "Use a number from 0 on.")])
    return value


_ACTIONS: dict[str, Callable[[Session, Mapping[str, Any]], object]] = {
    "add": _add,
    "move": lambda session, values: session.queue.move(values.get("id", ""), values.get("by", -1)),
    "remove": lambda session, values: session.queue.remove(values.get("id", "")),
    "start": lambda session, _: session.queue.start(),
    "stop": lambda session, _: session.queue.stop_all(),
}

GETS: dict[str, Callable[[Session, Mapping[str, str]], dict[str, Any]]] = {
    "runs": _list,
    "runs/{name}": _one,
    "queue": _queue,
}
"""Route → what it does with the parameters of the address."""

POSTS: dict[str, Callable[[Session, Any], dict[str, Any]]] = {
    "resume": _resume,
    "compare_runs": _compare,
    "choose_step": _choose_step,
    "delete_states": _delete_states,
    "delete_steps": _delete_steps,
    "length": _length,
    "queue": _change_queue,
}
"""Route → what it does with the body."""
