"""The webui's start options decide whether our HTTP routes exist and whom they let in."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib_pivotal.host import detect
from lib_pivotal.host.webui import api_access
from tests.contract.fake_webui import FakeWebui

_FLAGS = {
    "api": False,
    "nowebui": False,
    "api_auth": None,
    "cors_allow_origins": None,
    "cors_allow_origins_regex": None,
}
_SCRIPT = Path(__file__).parents[2] / "scripts" / "pivotal_tab.py"


def _started(monkeypatch: pytest.MonkeyPatch, **flags: Any) -> FakeWebui:
    webui = FakeWebui(monkeypatch)
    vars(webui.modules["shared"].cmd_opts).update(_FLAGS | flags)
    return webui


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        ("", {}),
        ("u:p", {"u": "p"}),
        ("u:p,v:q", {"u": "p", "v": "q"}),
        ("u:", {"u": ""}),
        ("anna:a,bert:b:c", {"anna": "a", "bert": "b:c"}),
        (":secret", {"": "secret"}),
        ("anna:a,", {"anna": "a"}),
    ],
)
def test_users_and_passwords_are_the_webuis(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: dict[str, str]
) -> None:
    _started(monkeypatch, api_auth=given)
    assert api_access.api_credentials() == expected


@pytest.mark.parametrize(
    ("flags", "expected"), [({}, False), ({"api": True}, True), ({"nowebui": True}, True)], ids=str
)
def test_there_is_an_api_only_when_the_webui_has_one(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], *, expected: bool
) -> None:
    _started(monkeypatch, **flags)
    assert api_access.has_api() is expected


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        ({}, []),
        ({"cors_allow_origins": "http://a:1,http://b"}, ["http://a:1", "http://b"]),
        ({"cors_allow_origins": "*"}, ["http://a:1", "http://b", "http://a:11", "null"]),
        ({"cors_allow_origins_regex": r"http://a:\d"}, ["http://a:1"]),
        ({"cors_allow_origins": "", "cors_allow_origins_regex": ""}, []),
    ],
    ids=str,
)
def test_other_sites_are_allowed_that_the_user_has_named(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, str], allowed: list[str]
) -> None:
    _started(monkeypatch, **flags)
    assert [
        origin for origin in ("http://a:1", "http://b", "http://a:11", "null") if api_access.is_allowed_origin(origin)
    ] == (allowed)


def _load_script(monkeypatch: pytest.MonkeyPatch, webui: FakeWebui) -> tuple[dict[str, Callable[..., Any]], list[Any]]:
    """The script with its callbacks by name, and what it registers routes with; the page itself is not built."""
    callbacks: dict[str, Callable[..., Any]] = {}
    registered: list[Any] = []
    for name in ("on_ui_settings", "on_ui_tabs", "on_app_started", "on_script_unloaded"):
        vars(webui.modules["script_callbacks"])[name] = lambda function, name=name: callbacks.update({name: function})
    stubs = {
        "lib_pivotal.app.api": {"register": lambda *arguments: registered.append(arguments)},
        "lib_pivotal.ui.tab": {"build_tab": None, "build_tab_without_host": None},
    }
    for name, values in stubs.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(detect, "current_host", lambda: ("a host", ""))
    spec = importlib.util.spec_from_file_location("pivotal_tab_under_test", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.session_for = lambda host: ("session of", host)
    return callbacks, registered


def test_routes_are_added_with_the_webuis_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = _started(monkeypatch, api=True, api_auth="u:p")
    callbacks, registered = _load_script(monkeypatch, webui)
    callbacks["on_app_started"](None, "app")
    assert registered == [("app", ("session of", "a host"), {"u": "p"}, api_access.is_allowed_origin)]


def test_a_webui_without_an_api_gets_no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = _started(monkeypatch)
    callbacks, registered = _load_script(monkeypatch, webui)
    callbacks["on_app_started"](None, "app")
    assert registered == []
