"""HTTP routes under ``/pivotal/v1``; described in docs/api.md.

Endpoints do their work in a thread pool, so that a slow one does not block the server. They read request bodies
themselves instead of declaring models: that works the same under pydantic 1 and 2, and every invalid body gets a clear
answer. FastAPI comes with the webui.
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

from lib_pivotal.app.api_runs import GETS, POSTS
from lib_pivotal.app.comparison import comparison_for
from lib_pivotal.app.comparison_plan import read_choices
from lib_pivotal.app.cross_site import foreign_origin
from lib_pivotal.app.request_body import read_body
from lib_pivotal.app.run_queue import Busy
from lib_pivotal.app.session import Session
from lib_pivotal.core.config.io import from_dict, read_dict, to_dict
from lib_pivotal.core.config.presets import filled_in
from lib_pivotal.core.config.settings_file import MAX_SETTINGS_BYTES, parse_settings
from lib_pivotal.core.config.shown import HALF_PAIR
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
    app.add_api_route(f"{_PREFIX}/status", routes.status, methods=["GET"], response_model=None)
    for name, reader in (("presets", routes.list_presets), ("compare", routes.comparison)):
        app.add_api_route(
            f"{_PREFIX}/{name}",
            reader,
            methods=["GET"],
            response_model=None,
            dependencies=[Depends(routes.require_login)],
        )
    for endpoint in (
        routes.check,
        routes.data_report,
        routes.core_tags,
        routes.captions,
        routes.presets,
        routes.train,
        routes.stop,
        routes.save,
        routes.sample,
        routes.import_,
        routes.compare,
        routes.compare_stop,
    ):
        app.add_api_route(
            # An underscore at the end keeps a name from being a word of Python.
            f"{_PREFIX}/{endpoint.__name__.rstrip('_')}",
            endpoint,
            methods=["POST"],
            response_model=None,
            dependencies=[Depends(routes.require_login)],
            openapi_extra=_BODY,
        )
    _add_run_routes(app, routes)


def _add_run_routes(app: Any, routes: _Routes) -> None:
    common = {"response_model": None, "dependencies": [Depends(routes.require_login)]}
    for name, read in GETS.items():
        app.add_api_route(f"{_PREFIX}/{name}", routes.reading(read), methods=["GET"], **common)
    for name, work in POSTS.items():
        app.add_api_route(f"{_PREFIX}/{name}", routes.working(work), methods=["POST"], openapi_extra=_BODY, **common)


class _Routes:
    """The endpoints; each method has the name of its route."""

    def __init__(self, session: Session, credentials: Mapping[str, str], is_trusted: Callable[[str], bool]) -> None:
        self._session = session
        self._credentials = credentials
        self._is_trusted = is_trusted
        self._comparison = comparison_for(session)

    def require_login(self, login: Any = _LOGIN) -> None:
        if not self._is_known(login):
            raise _unauthorized("The credentials of the webui's API are required")

    def status(self, login: Any = _LOGIN) -> Any:
        status = self._session.status()
        return _Response(status if self._is_known(login) else {name: status[name] for name in PUBLIC})

    async def check(self, request: Request) -> Any:
        return await self._respond(request, lambda body: _check(self._session, _settings(body)))

    async def data_report(self, request: Request) -> Any:
        return await self._respond(request, lambda body: _report(self._session, _settings(body)))

    async def core_tags(self, request: Request) -> Any:
        return await self._respond(request, lambda body: self._session.core_tags(from_dict(_settings(body))))

    def list_presets(self) -> Any:
        return _Response({"presets": [preset.as_dict() for preset in self._session.presets.all()[0]]})

    async def presets(self, request: Request) -> Any:
        return await self._respond(request, lambda body: _use_preset(self._session, _settings(body)))

    async def train(self, request: Request) -> Any:
        return await self._respond(request, lambda body: _start(self._session, _settings(body)))

    async def stop(self, request: Request) -> Any:
        return await self._respond(request, lambda body: _stop(self._session, parse_settings(body) if body else {}))

    async def save(self, request: Request) -> Any:
        return await self._respond(request, lambda _: _require_run(self._session.save_now()))

    async def sample(self, request: Request) -> Any:
        return await self._respond(request, lambda _: _require_run(self._session.sample_now()))

    async def captions(self, request: Request) -> Any:
        return await self._respond(request, lambda body: _captions(self._session, _settings(body)))

    async def import_(self, request: Request) -> Any:
        return await self._respond(request, lambda body: _import(self._session, _settings(body)))

    def reading(self, read: Callable[[Session, Mapping[str, str]], dict[str, Any]]) -> Callable[..., Any]:
        """The endpoint of a route without a body."""

        async def endpoint(request: Request) -> Any:
            values = {**request.query_params, **request.path_params}
            return await self._respond(request, lambda _: read(self._session, values))

        return endpoint

    def working(self, work: Callable[[Session, Any], dict[str, Any]]) -> Callable[..., Any]:
        """The endpoint of a route with a body."""

        async def endpoint(request: Request) -> Any:
            return await self._respond(request, lambda body: work(self._session, _settings(body)))

        return endpoint

    def comparison(self) -> Any:
        return _Response(self._comparison.status())

    async def compare(self, request: Request) -> Any:
        def start(body: bytes) -> dict[str, Any]:
            return {"task_id": self._comparison.start(read_choices(parse_settings(body) if body else {}))}

        return await self._respond(request, start)

    async def compare_stop(self, request: Request) -> Any:
        def stop(_body: bytes) -> dict[str, Any]:
            if not self._comparison.stop():
                raise _Refused(409, "No comparison is being made.", "Start one first.")
            return {"ok": True}

        return await self._respond(request, stop)

    async def _respond(self, request: Request, work: Callable[[bytes], dict[str, Any]]) -> Any:
        """The result of ``work`` for the request's body, or the error as JSON with its HTTP status."""
        try:
            body = await self._receive(request)
            return _Response(await run_in_threadpool(work, body))
        except ConfigError as error:
            return _failure(422, str(error), "", error.problems)
        except _Refused as error:
            return _failure(error.status, error.message, error.hint)
        except Busy as error:
            return _failure(409, error.message, error.hint)
        except PivotalError as error:
            # A bundle that cannot be used was chosen by the caller.
            return _failure(422 if isinstance(error, BundleError) else 500, error.message, error.hint)
        except Exception as error:
            logger.exception("A request failed")
            text = f"Unexpected failure: {type(error).__name__}: {error}"
            return _failure(500, text, "The details are in the webui's console.")

    async def _receive(self, request: Request) -> bytes:
        """The body of a request, if the request is allowed.

        Raises:
            _Refused: the request comes from another site, or its body is too long or not declared as JSON.
        """
        origin = foreign_origin(request.headers, self._is_trusted, asks_for_login=bool(self._credentials))
        if origin:
            text = f"This request comes from another site ({printable(origin)}), so it is refused."
            hint = "If that site is yours, start the webui with --cors-allow-origins and its address."
            raise _Refused(403, text, hint)
        body = b""
        length = 0
        # Always read to the end: many clients look at the response only after they have sent everything.
        async for piece in request.stream():
            length += len(piece)
            body = body + piece if length <= MAX_SETTINGS_BYTES else b""
        if length > MAX_SETTINGS_BYTES:
            text = f"The body is longer than {MAX_SETTINGS_BYTES >> 10} KiB."
            raise _Refused(413, text, "Send settings only; images are read from their folder.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            text = f"The body must be JSON; its Content-Type is {printable(kind) or 'missing'}."
            raise _Refused(415, text, "Send the header Content-Type: application/json.")
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


def _settings(body: bytes) -> Any:
    if not body:
        raise ConfigError([Problem("config", "error", "The request has no settings.", "Send them as JSON.")])
    return parse_settings(body)


def _check(session: Session, body: Any) -> dict[str, Any]:
    try:
        problems = session.check(*read_dict(body))
    except ConfigError as error:
        problems = error.problems
    return {"ok": not any(problem.is_error for problem in problems), "problems": _as_dicts(problems)}


def _report(session: Session, body: Any) -> dict[str, Any]:
    checked = session.checked(*read_dict(body))
    if checked.table is None:
        raise ConfigError([problem for problem in checked.problems if problem.is_error])
    return {**checked.table.as_dict(), "problems": _as_dicts(checked.problems)}


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


def _captions(session: Session, body: Any) -> dict[str, Any]:
    read_body(body, {"config": dict, "step": int, "image": str, "count": int}, "config")
    config, found = read_dict(body["config"])
    if any(problem.is_error for problem in found):
        raise ConfigError(found)
    return session.captions(config, **{name: value for name, value in body.items() if name != "config"})


def _import(session: Session, body: Any) -> dict[str, Any]:
    path = body.get("path") if isinstance(body, Mapping) else None
    if not isinstance(path, str):
        raise ConfigError([Problem("path", "error", "It must be a string.", 'Send {"path": "…"}.')])
    result = session.import_settings(path)
    return {
        "kind": result.kind,
        "config": to_dict(result.config),
        "unused": list(result.unused),
        "problems": _as_dicts(list(result.problems)),
    }


def _require_run(was_active: bool) -> dict[str, Any]:
    if not was_active:
        raise _Refused(409, "No training in progress.", "Start training first.")
    return {"ok": True}


class _Refused(PivotalError):
    """A rejected request, with its HTTP status."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class _Response(JSONResponse):
    """JSON that every client can parse, whatever strings and numbers it contains."""

    def render(self, content: Any) -> bytes:
        try:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            text = json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":"))
        # File names may contain lone surrogates, which UTF-8 cannot encode; they are shown as \\udc80.
        return HALF_PAIR.sub(lambda half: f"\\\\u{ord(half.group()):x}", text).encode("utf-8")


def _finite(content: Any) -> Any:
    """The same content with null for NaN and infinity, which JSON does not have."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, (list, tuple)) else content


def _failure(status: int, message: str, hint: str, problems: list[Problem] | None = None) -> JSONResponse:
    return _Response({"message": message, "hint": hint, "problems": _as_dicts(problems or [])}, status_code=status)


def _as_dicts(problems: list[Problem]) -> list[dict[str, str]]:
    return [
        {"field": item.field, "severity": item.severity, "message": item.message, "hint": item.hint}
        for item in problems
    ]
