"""Detection of the host that this process runs in, with the fake webui."""

from __future__ import annotations

import sys
import types

import pytest

from lib_pivotal.host.detect import current_host
from tests.contract.fake_webui import FakeWebui


def _tagged(monkeypatch: pytest.MonkeyPatch, tag: str, version: tuple[int, ...] = (1, 10, 1)) -> FakeWebui:
    webui = FakeWebui(monkeypatch, version)
    webui.behave("launch_utils", "git_tag", lambda: tag)
    return webui


def test_no_webui() -> None:
    assert current_host() == (None, "This process is not a webui.")


@pytest.mark.parametrize(
    ("tag", "version", "name"),
    [
        ("v1.10.1-2-gabc", (1, 10, 1), "A1111 1.10.1"),
        ("1.6.1", (1, 6, 1), "A1111 1.6.1"),
        ("<none>", (1, 10), "A1111 <none>"),
    ],
)
def test_supported_versions(monkeypatch: pytest.MonkeyPatch, tag: str, version: tuple[int, ...], name: str) -> None:
    _tagged(monkeypatch, tag, version)
    host, reason = current_host()
    assert reason == ""
    assert host is not None
    assert host.name == name


def test_an_old_webui_is_refused_with_the_version_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    _tagged(monkeypatch, "v1.5.2")
    assert current_host() == (None, "This webui is v1.5.2; training needs 1.6 or newer.")


def test_an_unknown_fork_is_refused_with_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = _tagged(monkeypatch, "v1.10.1")
    del webui.modules["sd_models"].__dict__["reload_model_weights"]
    host, reason = current_host()
    assert host is None
    assert "modules.sd_models.reload_model_weights" in reason


def test_a_fork_without_the_launcher_is_refused_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """SD.Next keeps its version elsewhere."""
    FakeWebui(monkeypatch)
    monkeypatch.setitem(sys.modules, "modules.launch_utils", None)
    host, reason = current_host()
    assert host is None
    assert "modules.launch_utils.git_tag" in reason


def _version(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A webui with the package ``modules_forge``, of which only the version is there."""
    _tagged(monkeypatch, "f2.0.1v1.10.1")
    for name, values in (("modules_forge", {}), ("modules_forge.forge_version", {"version": text})):
        module = types.ModuleType(name)
        module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
        module.__dict__.update(values)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(("version", "name"), [("0.0.17v1.8.0rc", "Forge 0.0.17"), ("classic", "Forge classic")])
def test_relatives_of_forge_that_cannot_train_are_named(
    monkeypatch: pytest.MonkeyPatch, version: str, name: str
) -> None:
    _version(monkeypatch, version)
    host, reason = current_host()
    assert host is None
    assert reason.startswith(f"This webui is {name}, and training is not supported in it yet")
    assert "Forge 2, Forge-Neo, reForge 1" in reason


@pytest.mark.parametrize(
    ("version", "missing"),
    [("2.0.1v1.10.1", "backend.memory_management.load_models_gpu"),
     ("neo", "backend.memory_management.load_models_gpu"),
     ("1.0.0v2-v1.10.1RC", "ldm_patched.modules.model_management.load_models_gpu")],
)  # fmt: skip
def test_a_forge_that_lacks_something_is_refused_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, version: str, missing: str
) -> None:
    _version(monkeypatch, version)
    host, reason = current_host()
    assert host is None
    assert missing in reason
