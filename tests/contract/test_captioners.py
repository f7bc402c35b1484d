"""The webui's programs that describe images, on the fake webui."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from PIL import Image

from lib_pivotal.core.errors import HostError, Interrupted
from lib_pivotal.host.a1111.host import A1111Host
from lib_pivotal.host.webui.captioners import ClipInterrogator, DeepDanbooru
from tests.contract.fake_webui import FakeWebui
from tests.contract.host_tree import version_of
from tests.contract.test_real_tree import _trees

IMAGE = Image.new("RGB", (8, 8))


@pytest.fixture(params=[(1, 6), (1, 10, 1)])
def webui(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> FakeWebui:
    webui = FakeWebui(monkeypatch, request.param)
    webui.modules["deepbooru"].model = webui.make("DeepDanbooru")
    webui.modules["shared"].interrogator = webui.make("InterrogateModels")
    return webui


def _behave(instance: Any, method: str, function: Any) -> None:
    getattr(type(instance), method).behavior = function


def test_deepdanbooru_loads_once_and_is_put_away(webui: FakeWebui) -> None:
    model = webui.modules["deepbooru"].model
    _behave(model, "tag_multi", lambda self, image, force_disable_ranks: "1girl, hat")
    with DeepDanbooru().opened() as describe:
        assert [describe(IMAGE), describe(IMAGE)] == ["1girl, hat"] * 2
    assert webui.calls == ["start", "tag_multi", "tag_multi", "stop"]


def test_a_failure_puts_the_model_away_and_a_missing_model_is_explained(webui: FakeWebui) -> None:
    model = webui.modules["deepbooru"].model
    with pytest.raises(ZeroDivisionError), DeepDanbooru().opened():
        raise ZeroDivisionError
    assert webui.calls == ["start", "stop"]

    def fail(self: Any) -> None:
        raise OSError("no network")

    _behave(model, "start", fail)
    with pytest.raises(HostError, match="no network") as caught, DeepDanbooru().opened():
        pass
    assert "torch_deepdanbooru" in caught.value.hint


def test_the_interrogator_says_when_it_fails(webui: FakeWebui) -> None:
    interrogator = webui.modules["shared"].interrogator
    _behave(interrogator, "interrogate", lambda self, image: "a hill, by someone")
    with ClipInterrogator().opened() as describe:
        assert describe(IMAGE) == "a hill, by someone"
        _behave(interrogator, "interrogate", lambda self, image: "a hill<error>")
        with pytest.raises(HostError, match="failed"):
            describe(IMAGE)


def test_interrupt_ends_the_captions(webui: FakeWebui) -> None:
    webui.modules["shared"].state.interrupted = True
    for captioner in (DeepDanbooru(), ClipInterrogator()):
        with captioner.opened() as describe, pytest.raises(Interrupted):
            describe(IMAGE)
    assert not {"tag_multi", "interrogate"} & set(webui.calls)


def _real(tree: Path, file: str, name: str, **names: Any) -> Any:
    """A class or function of the webui's source, with stand-ins for what it uses."""
    parsed = ast.parse((tree / "modules" / file).read_text(encoding="utf-8"))
    node = next(node for node in parsed.body if getattr(node, "name", "") == name)
    future = ast.ImportFrom("__future__", [ast.alias("annotations")], 0)
    scope = {"os": os, "devices": MagicMock(), "errors": MagicMock(), "lowvram": MagicMock(), **names}
    exec(compile(ast.fix_missing_locations(ast.Module([future, node], [])), file, "exec"), scope)
    return scope[name]


@pytest.mark.parametrize("tree", _trees(), ids=lambda tree: tree.name)
def test_a_real_webui_without_the_models_and_without_a_network_says_so(
    monkeypatch: pytest.MonkeyPatch, tree: Path, tmp_path: Path
) -> None:
    webui = FakeWebui(monkeypatch, version_of(tree))
    shared = MagicMock(walk_files=MagicMock(return_value=[]))
    load = _real(
        tree, "modelloader.py", "load_models", shared=shared, load_file_from_url=MagicMock(side_effect=OSError)
    )
    loader, paths = MagicMock(load_models=load), MagicMock(models_path=str(tmp_path))
    names = {"shared": shared, "modelloader": loader, "paths": paths, "torch": MagicMock()}
    webui.modules["deepbooru"].model = _real(
        tree, "deepbooru.py", "DeepDanbooru", deepbooru_model=MagicMock(), **names
    )()
    with pytest.raises(HostError, match="is missing") as caught, DeepDanbooru().opened():
        pass
    assert "torch_deepdanbooru" in caught.value.hint
    monkeypatch.setitem(sys.modules, "models", MagicMock())
    monkeypatch.setitem(sys.modules, "models.blip", MagicMock())
    interrogator = _real(tree, "interrogate.py", "InterrogateModels", sys=MagicMock(), **names)
    monkeypatch.setattr(interrogator, "unload", lambda self: None)
    webui.modules["shared"].interrogator = interrogator(str(tmp_path))
    with ClipInterrogator().opened() as describe, pytest.raises(HostError, match="has failed"):
        describe(IMAGE)


def test_both_are_offered(webui: FakeWebui) -> None:
    offered = A1111Host("1.10.1").captioners()
    assert len({item.name for item in offered}) == len(offered) == 2
    assert all(item.download for item in offered)


def test_a_webui_without_them_offers_none(webui: FakeWebui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modules.deepbooru", None)
    assert [item.name for item in A1111Host("1.10.1").captioners()] == [ClipInterrogator.name]
    monkeypatch.setitem(sys.modules, "modules.interrogate", None)
    assert A1111Host("1.10.1").captioners() == []
