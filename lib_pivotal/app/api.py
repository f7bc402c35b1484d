"""HTTP routes below ``/pivotal/v1``; described in docs/api.md.

Endpoints are plain functions (a blocking one must not stop the server) and take plain objects, so that they
work under pydantic 1 and 2.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from lib_pivotal.app.session import Busy, Session
from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem

__all__ = ["PUBLIC", "register"]

logger = logging.getLogger("pivotal.api")

_PREFIX = "/pivotal/v1"

PUBLIC = (
    "state",
    "is_active",
    "is_stopping",
    "step",
    "total_steps",
    "loss",
    "seconds_per_step",
    "eta_s",
    "losses",
    "task_id",
)
"""Fields of the status that are told without credentials: no path, no caption, no name."""


def register(app: Any, session: Session, credentials: Mapping[str, str]) -> None:
    """Add the routes to a FastAPI application.

    Args:
        app: the webui's application.
        session: what the routes act on.
        credentials: user → password of the webui's API; empty when it asks for none.
    """
    from fastapi import Body, Depends, HTTPException
    from fastapi.responses import JSONResponse
    from fastapi.security import HTTPBasic

    # Annotations must be objects, not names: the framework cannot see this function's locals.
    basic: Any = HTTPBasic(auto_error=False)

    def is_known(login: Any) -> bool:
        if not credentials:
            return True
        if login is None:
            return False
        expected = credentials.get(login.username)
        # The comparison takes as long for an unknown user.
        fits = secrets.compare_digest(login.password.encode(), (expected or secrets.token_hex(16)).encode())
        if expected is None or not fits:
            raise HTTPException(401, "Wrong user or password", headers={"WWW-Authenticate": "Basic"})
        return True

    def require(login: Any = Depends(basic)) -> None:
        if not is_known(login):
            raise HTTPException(401, "Credentials of the webui's API are needed", headers={"WWW-Authenticate": "Basic"})

    def get_status(login: Any = Depends(basic)) -> Any:
        status = session.status()
        return status if is_known(login) else {name: status[name] for name in PUBLIC}

    def post_check(body: Any = Body(...)) -> Any:
        return answer(lambda: _check(session, body))

    def post_train(body: Any = Body(...)) -> Any:
        return answer(lambda: _start(session, body))

    def post_stop(body: Any = Body(None)) -> Any:
        return answer(lambda: _stop(session, body))

    def post_save() -> Any:
        return answer(lambda: _require_run(session.save_now()))

    def post_sample() -> Any:
        return answer(lambda: _require_run(session.sample_now()))

    def answer(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:
            status, content = _describe(error)
            return JSONResponse(content, status_code=status)

    app.add_api_route(f"{_PREFIX}/status", get_status, methods=["GET"], response_model=None)
    for name, endpoint in (
        ("check", post_check),
        ("train", post_train),
        ("stop", post_stop),
        ("save", post_save),
        ("sample", post_sample),
    ):
        app.add_api_route(
            f"{_PREFIX}/{name}", endpoint, methods=["POST"], response_model=None, dependencies=[Depends(require)]
        )


def _check(session: Session, body: Any) -> dict[str, Any]:
    try:
        problems = session.check(from_dict(body))
    except ConfigError as error:
        problems = error.problems
    return {"ok": not any(problem.is_error for problem in problems), "problems": _plain(problems)}


def _start(session: Session, body: Any) -> dict[str, Any]:
    task_id = session.start(from_dict(body))
    return {"task_id": task_id, "run_folder": session.status()["run_folder"]}


def _stop(session: Session, body: Any) -> dict[str, Any]:
    values = {} if body is None else body
    discard = values.get("discard", False) if isinstance(values, Mapping) else None
    if not isinstance(discard, bool):
        raise ConfigError([Problem("discard", "error", "It must be true or false.", 'Send {"discard": false}.')])
    return _require_run(session.stop(discard=discard))


def _require_run(was_on: bool) -> dict[str, Any]:
    if not was_on:
        raise _NoRunError("No run is on.", hint="Start one first.")
    return {"ok": True}


class _NoRunError(PivotalError):
    """Something was asked of a run while none is on."""


def _describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON answer of an error."""
    if isinstance(error, ConfigError):
        return 422, {"message": str(error), "hint": "", "problems": _plain(error.problems)}
    if isinstance(error, PivotalError):
        status = 409 if isinstance(error, (Busy, _NoRunError)) else 500
        return status, {"message": error.message, "hint": error.hint, "problems": []}
    logger.exception("A request failed")
    text = f"Unexpected failure: {type(error).__name__}: {error}"
    return 500, {"message": text, "hint": "The details are in the webui's console.", "problems": []}


def _plain(problems: list[Problem]) -> list[dict[str, str]]:
    return [
        {"field": item.field, "severity": item.severity, "message": item.message, "hint": item.hint}
        for item in problems
    ]
