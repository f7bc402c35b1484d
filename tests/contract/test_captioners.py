"""The webui's programs that describe images, on the fake webui."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from lib_pivotal.core.errors import HostError
from lib_pivotal.host.a1111.host import A1111Host
from lib_pivotal.host.webui.captioners import ClipInterrogator, DeepDanbooru
from tests.contract.fake_webui import FakeWebui

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


def test_both_are_offered(webui: FakeWebui) -> None:
    offered = A1111Host("1.10.1").captioners()
    assert len({item.name for item in offered}) == len(offered) == 2
    assert all(item.download for item in offered)
