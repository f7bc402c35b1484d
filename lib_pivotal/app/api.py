"""HTTP routes under ``/pivotal/v1``; described in docs/api.md.

Endpoints do their work in a thread pool, so that a slow one does not block the server. They read request bodies
themselves instead of declaring models: that works the same under pydantic 1 and 2, and every invalid body gets a clear
answer. FastAPI comes with the webui.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from lib_pivotal.app import api_comparison, api_fusing, api_runs, api_training
from lib_pivotal.app.api_answers import Answer, Refused, failure
from lib_pivotal.app.cross_site import foreign_origin
from lib_pivotal.app.run_queue import Busy
from lib_pivotal.app.session import Session
from lib_pivotal.core.config.settings_file import MAX_SETTINGS_BYTES, parse_settings
from lib_pivotal.core.errors import BundleError, ConfigError, PivotalError, Problem
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
    "validation",
    "task_id",
)
"""Status fields that are also sent without credentials; they contain no paths, captions or names."""

_basic = HTTPBasic(auto_error=False)
# Passed as default values: FastAPI supports ``Annotated`` only from 0.95 on, and A1111 has 0.94.
_LOGIN: Any = Depends(_basic)
# For the page /docs, where requests can be tried out.
_BODY = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}


def register(
    app: Any, session: Session, credentials: Mapping[str, str], is_trusted: Callable[[str], bool] = lambda _: False
) -> None:
    """Add the routes to a FastAPI application.

    Args:
        app: the webui's application.
        session: what the routes act on.
        credentials: user → password of the webui's API; empty if it requires none.
        is_trusted: whether pages from this other origin (``https://name:port``) may use the webui.
    """
    routes = _Routes(session, credentials, is_trusted)
    common = {"response_model": None, "dependencies": [Depends(routes.require_login)]}
    app.add_api_route(f"{_PREFIX}/status", routes.status, methods=["GET"], response_model=None)
    for name, read in {**api_training.GETS, **api_runs.GETS, **api_comparison.GETS, **api_fusing.GETS}.items():
        app.add_api_route(f"{_PREFIX}/{name}", routes.reading(read), methods=["GET"], **common)
    common["openapi_extra"] = _BODY
    for name, work in {**api_training.POSTS, **api_runs.POSTS, **api_fusing.POSTS}.items():
        app.add_api_route(f"{_PREFIX}/{name}", routes.working(work), methods=["POST"], **common)
    bodiless = {**api_training.POSTS_WITHOUT_BODY, **api_comparison.POSTS_WITHOUT_BODY, **api_fusing.POSTS_WITHOUT_BODY}
    for name, work in bodiless.items():
        app.add_api_route(f"{_PREFIX}/{name}", routes.working(work, needs_body=False), methods=["POST"], **common)


class _Routes:
    """Makes the endpoints."""

    def __init__(self, session: Session, credentials: Mapping[str, str], is_trusted: Callable[[str], bool]) -> None:
        self._session = session
        self._credentials = credentials
        self._is_trusted = is_trusted

    def require_login(self, login: Any = _LOGIN) -> None:
        if not self._is_known(login):
            raise _unauthorized("The credentials of the webui's API are required")

    def status(self, login: Any = _LOGIN) -> Any:
        status = self._session.status()
        return Answer(status if self._is_known(login) else {name: status[name] for name in PUBLIC})

    def reading(self, read: Callable[[Session, Mapping[str, str]], dict[str, Any]]) -> Callable[..., Any]:
        """The endpoint of a route without a body."""

        async def endpoint(request: Request) -> Any:
            values = {**request.query_params, **request.path_params}
            return await self._respond(request, lambda _: read(self._session, values))

        return endpoint

    def working(self, work: Callable[[Session, Any], dict[str, Any]], *, needs_body: bool = True) -> Callable[..., Any]:
        """The endpoint of a route with a body."""

        async def endpoint(request: Request) -> Any:
            return await self._respond(request, lambda body: work(self._session, _parsed(body, is_needed=needs_body)))

        return endpoint

    async def _respond(self, request: Request, work: Callable[[bytes], dict[str, Any]]) -> Any:
        """The result of ``work`` for the request's body, or the error as JSON with its HTTP status."""
        try:
            body = await self._receive(request)
            return Answer(await run_in_threadpool(work, body))
        except ConfigError as error:
            return failure(422, str(error), "", error.problems)
        except Refused as error:
            return failure(error.status, error.message, error.hint)
        except Busy as error:
            return failure(409, error.message, error.hint)
        except PivotalError as error:
            # A bundle that cannot be used was chosen by the caller.
            return failure(422 if isinstance(error, BundleError) else 500, error.message, error.hint)
        except Exception as error:
            logger.exception("A request failed")
            text = f"Unexpected failure: {type(error).__name__}: {error}"
            return failure(500, text, "The details are in the webui's console.")

    async def _receive(self, request: Request) -> bytes:
        """The body of a request, if the request is allowed.

        Raises:
            Refused: the request comes from another site, or its body is too long or not declared as JSON.
        """
        origin = foreign_origin(request.headers, self._is_trusted, asks_for_login=bool(self._credentials))
        if origin:
            text = f"This request comes from another site ({printable(origin)}), so it is refused."
            hint = "If that site is yours, start the webui with --cors-allow-origins and its address."
            raise Refused(403, text, hint)
        body = b""
        length = 0
        # Always read to the end: many clients look at the response only after they have sent everything.
        async for piece in request.stream():
            length += len(piece)
            body = body + piece if length <= MAX_SETTINGS_BYTES else b""
        if length > MAX_SETTINGS_BYTES:
            text = f"The body is longer than {MAX_SETTINGS_BYTES >> 10} KiB."
            raise Refused(413, text, "Send settings only; images are read from their folder.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            text = f"The body must be JSON; its Content-Type is {printable(kind) or 'missing'}."
            raise Refused(415, text, "Send the header Content-Type: application/json.")
        return body

    def _is_known(self, login: HTTPBasicCredentials | None) -> bool:
        """Whether the caller may do everything; a wrong login is refused rather than ignored."""
        if not self._credentials:
            return True
        if login is None:
            return False
        expected = self._credentials.get(login.username)
        # Unknown users are compared as well, so that the time taken does not reveal which users exist.
        matches = secrets.compare_digest(login.password.encode(), (expected or secrets.token_hex(16)).encode())
        if expected is None or not matches:
            raise _unauthorized("Wrong user or password")
        return True


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Basic"})


def _parsed(body: bytes, *, is_needed: bool) -> Any:
    if not body and is_needed:
        raise ConfigError([Problem("config", "error", "The request has no settings.", "Send them as JSON.")])
    return parse_settings(body) if body else {}
