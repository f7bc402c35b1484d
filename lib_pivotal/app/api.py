"""HTTP routes below ``/pivotal/v1``; described in docs/api.md.

Endpoints are plain functions (a blocking one must not stop the server) and take plain objects, so that they
work under pydantic 1 and 2. FastAPI comes with the webui.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Body, Depends, HTTPException
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from lib_pivotal.app.session import Busy, Session
from lib_pivotal.core.config.io import read_dict
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

_basic = HTTPBasic(auto_error=False)
# As default values, for FastAPI knows ``Annotated`` from 0.95 and A1111 has 0.94.
_LOGIN: Any = Depends(_basic)
_BODY: Any = Body(...)
_NO_BODY: Any = Body(None)


def register(app: Any, session: Session, credentials: Mapping[str, str]) -> None:
    """Add the routes to a FastAPI application.

    Args:
        app: the webui's application.
        session: what the routes act on.
        credentials: user → password of the webui's API; empty when it asks for none.
    """
    routes = _Routes(session, credentials)
    app.add_api_route(f"{_PREFIX}/status", routes.status, methods=["GET"], response_model=None)
    for endpoint in (routes.check, routes.train, routes.stop, routes.save, routes.sample):
        app.add_api_route(
            f"{_PREFIX}/{endpoint.__name__}",
            endpoint,
            methods=["POST"],
            response_model=None,
            dependencies=[Depends(routes.require_login)],
        )


class _Routes:
    """The endpoints; each method has the name of its route."""

    def __init__(self, session: Session, credentials: Mapping[str, str]) -> None:
        self._session = session
        self._credentials = credentials

    def require_login(self, login: Any = _LOGIN) -> None:
        if not self._is_known(login):
            raise _unauthorised("Credentials of the webui's API are needed")

    def status(self, login: Any = _LOGIN) -> Any:
        status = self._session.status()
        return status if self._is_known(login) else {name: status[name] for name in PUBLIC}

    def check(self, body: Any = _BODY) -> Any:
        return _answer(lambda: _check(self._session, body))

    def train(self, body: Any = _BODY) -> Any:
        return _answer(lambda: _start(self._session, body))

    def stop(self, body: Any = _NO_BODY) -> Any:
        return _answer(lambda: _stop(self._session, body))

    def save(self) -> Any:
        return _answer(lambda: _require_run(self._session.save_now()))

    def sample(self) -> Any:
        return _answer(lambda: _require_run(self._session.sample_now()))

    def _is_known(self, login: HTTPBasicCredentials | None) -> bool:
        """Whether the caller may do everything; a wrong login is refused rather than ignored."""
        if not self._credentials:
            return True
        if login is None:
            return False
        expected = self._credentials.get(login.username)
        # The comparison takes as long for an unknown user.
        fits = secrets.compare_digest(login.password.encode(), (expected or secrets.token_hex(16)).encode())
        if expected is None or not fits:
            raise _unauthorised("Wrong user or password")
        return True


def _unauthorised(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Basic"})


def _check(session: Session, body: Any) -> dict[str, Any]:
    try:
        problems = session.check(*read_dict(body))
    except ConfigError as error:
        problems = error.problems
    return {"ok": not any(problem.is_error for problem in problems), "problems": _plain(problems)}


def _start(session: Session, body: Any) -> dict[str, Any]:
    task_id = session.start(*read_dict(body))
    return {"task_id": task_id, "run_folder": session.status()["run_folder"]}


def _stop(session: Session, body: Any) -> dict[str, Any]:
    values = {} if body is None else body
    discard = values.get("discard", False) if isinstance(values, Mapping) else None
    if not isinstance(discard, bool):
        raise ConfigError([Problem("discard", "error", "It must be true or false.", 'Send {"discard": false}.')])
    return _require_run(session.stop(discard=discard))


def _require_run(was_on: bool) -> dict[str, Any]:
    if not was_on:
        raise _NoRun("No run is on.", hint="Start one first.")
    return {"ok": True}


class _NoRun(PivotalError):
    """Something was asked of a run while none is on."""


def _answer(work: Callable[[], Any]) -> Any:
    """The result, or the error as JSON with its HTTP status."""
    try:
        return work()
    except ConfigError as error:
        return _failure(422, str(error), "", error.problems)
    except (Busy, _NoRun) as error:
        return _failure(409, error.message, error.hint)
    except PivotalError as error:
        return _failure(500, error.message, error.hint)
    except Exception as error:
        logger.exception("A request failed")
        text = f"Unexpected failure: {type(error).__name__}: {error}"
        return _failure(500, text, "The details are in the webui's console.")


def _failure(status: int, message: str, hint: str, problems: list[Problem] | None = None) -> JSONResponse:
    return JSONResponse({"message": message, "hint": hint, "problems": _plain(problems or [])}, status_code=status)


def _plain(problems: list[Problem]) -> list[dict[str, str]]:
    return [
        {"field": item.field, "severity": item.severity, "message": item.message, "hint": item.hint}
        for item in problems
    ]
