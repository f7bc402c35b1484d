"""HTTP routes below ``/pivotal/v1``; described in docs/api.md.

Endpoints work in a thread of their own (a blocking one must not stop the server) and read their bodies themselves:
of any length, in any shape and without models, so that they are the same under pydantic 1 and 2. FastAPI comes with
the webui.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from lib_pivotal.app.cross_site import foreign_origin
from lib_pivotal.app.session import Busy, Session
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.settings_file import LONGEST_SETTINGS, parse_settings
from lib_pivotal.core.config.shown import HALF_PAIR
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.printable import printable

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
# For the page /docs, where requests can be tried.
_BODY = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}


def register(
    app: Any, session: Session, credentials: Mapping[str, str], is_trusted: Callable[[str], bool] = lambda _: False
) -> None:
    """Add the routes to a FastAPI application.

    Args:
        app: the webui's application.
        session: what the routes act on.
        credentials: user → password of the webui's API; empty when it asks for none.
        is_trusted: whether pages of an origin (``https://name:port``) may use the webui from elsewhere.
    """
    routes = _Routes(session, credentials, is_trusted)
    app.add_api_route(f"{_PREFIX}/status", routes.status, methods=["GET"], response_model=None)
    for endpoint in (routes.check, routes.train, routes.stop, routes.save, routes.sample):
        app.add_api_route(
            f"{_PREFIX}/{endpoint.__name__}",
            endpoint,
            methods=["POST"],
            response_model=None,
            dependencies=[Depends(routes.require_login)],
            openapi_extra=_BODY,
        )


class _Routes:
    """The endpoints; each method has the name of its route."""

    def __init__(self, session: Session, credentials: Mapping[str, str], is_trusted: Callable[[str], bool]) -> None:
        self._session = session
        self._credentials = credentials
        self._is_trusted = is_trusted

    def require_login(self, login: Any = _LOGIN) -> None:
        if not self._is_known(login):
            raise _unauthorized("Credentials of the webui's API are needed")

    def status(self, login: Any = _LOGIN) -> Any:
        status = self._session.status()
        return _Answer(status if self._is_known(login) else {name: status[name] for name in PUBLIC})

    async def check(self, request: Request) -> Any:
        return await self._answer(request, lambda body: _check(self._session, _settings(body)))

    async def train(self, request: Request) -> Any:
        return await self._answer(request, lambda body: _start(self._session, _settings(body)))

    async def stop(self, request: Request) -> Any:
        return await self._answer(request, lambda body: _stop(self._session, parse_settings(body) if body else {}))

    async def save(self, request: Request) -> Any:
        return await self._answer(request, lambda _: _require_run(self._session.save_now()))

    async def sample(self, request: Request) -> Any:
        return await self._answer(request, lambda _: _require_run(self._session.sample_now()))

    async def _answer(self, request: Request, work: Callable[[bytes], dict[str, Any]]) -> Any:
        """What ``work`` answers to the request's body, or an error as JSON with its HTTP status."""
        try:
            body = await self._receive(request)
            return _Answer(await run_in_threadpool(work, body))
        except ConfigError as error:
            return _failure(422, str(error), "", error.problems)
        except _Refused as error:
            return _failure(error.status, error.message, error.hint)
        except Busy as error:
            return _failure(409, error.message, error.hint)
        except PivotalError as error:
            return _failure(500, error.message, error.hint)
        except Exception as error:
            logger.exception("A request failed")
            text = f"Unexpected failure: {type(error).__name__}: {error}"
            return _failure(500, text, "The details are in the webui's console.")

    async def _receive(self, request: Request) -> bytes:
        """The body of a request that may be obeyed.

        Raises:
            _Refused: another site sends it, or its body is too long or not JSON by its own words.
        """
        origin = foreign_origin(request.headers, self._is_trusted, asks_for_login=bool(self._credentials))
        if origin:
            text = f"This request comes from another site ({printable(origin)}), so it is refused."
            hint = "If that site is yours, start the webui with --cors-allow-origins and its address."
            raise _Refused(403, text, hint)
        body = b""
        length = 0
        # Read to its end in any case, for many programs listen only then.
        async for piece in request.stream():
            length += len(piece)
            body = body + piece if length <= LONGEST_SETTINGS else b""
        if length > LONGEST_SETTINGS:
            text = f"The body is longer than {LONGEST_SETTINGS >> 10} KiB."
            raise _Refused(413, text, "Send settings only; images are read from their folder.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            text = f"The body is {printable(kind) or 'of no named type'}; it must be JSON and say so."
            raise _Refused(415, text, "Send the header Content-Type: application/json.")
        return body

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
            raise _unauthorized("Wrong user or password")
        return True


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Basic"})


def _settings(body: bytes) -> Any:
    if not body:
        raise ConfigError([Problem("config", "error", "The request has no settings.", "Send them as JSON.")])
    return parse_settings(body)


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
    discard = body.get("discard", False) if isinstance(body, Mapping) else None
    if not isinstance(discard, bool):
        raise ConfigError([Problem("discard", "error", "It must be true or false.", 'Send {"discard": false}.')])
    return _require_run(session.stop(discard=discard))


def _require_run(was_on: bool) -> dict[str, Any]:
    if not was_on:
        raise _Refused(409, "No run is on.", "Start one first.")
    return {"ok": True}


class _Refused(PivotalError):
    """A request that is not obeyed, with its HTTP status."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class _Answer(JSONResponse):
    """JSON that every program can read, whatever texts and numbers are in it."""

    def render(self, content: Any) -> bytes:
        try:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            text = json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":"))
        # File names may have halves of characters, which UTF-8 has not; they are shown as \\udc80.
        return HALF_PAIR.sub(lambda half: f"\\\\u{ord(half.group()):x}", text).encode("utf-8")


def _finite(content: Any) -> Any:
    """The same with null for numbers that JSON does not have."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, (list, tuple)) else content


def _failure(status: int, message: str, hint: str, problems: list[Problem] | None = None) -> JSONResponse:
    return _Answer({"message": message, "hint": hint, "problems": _plain(problems or [])}, status_code=status)


def _plain(problems: list[Problem]) -> list[dict[str, str]]:
    return [
        {"field": item.field, "severity": item.severity, "message": item.message, "hint": item.hint}
        for item in problems
    ]
