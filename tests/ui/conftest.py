"""The tab on a fake webui, with an engine that the test controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ui.fake_host import FakeBundleLibrary, FakeHost, GatedEngine, write_images

gradio = pytest.importorskip("gradio", reason="the tab's tests need one of the two Gradio environments")

from lib_pivotal.app.comparison import comparison_for  # noqa: E402
from lib_pivotal.app.fusing import fusing_for  # noqa: E402
from lib_pivotal.app.image_browser import browser_for  # noqa: E402
from lib_pivotal.app.session import Session  # noqa: E402
from lib_pivotal.ui.tab import build_tab  # noqa: E402
from tests.ui.page import Page  # noqa: E402


class _Built:
    """A tab and the objects that its buttons act on; building one takes Gradio longer than most tests take."""

    def __init__(self, folder: Path) -> None:
        session, library = Session(FakeHost(folder), GatedEngine()), FakeBundleLibrary()
        self.blocks = build_tab(session, library)
        self._own = _acted_on(session, library)

    def act_on(self, session: Session, library: FakeBundleLibrary) -> None:
        """Let the buttons act on other objects: what was built with the tab takes over their state."""
        for own, other in zip(self._own, _acted_on(session, library)):
            own.__dict__ = other.__dict__


def _acted_on(session: Session, library: FakeBundleLibrary) -> list[Any]:
    own = [comparison_for(session), fusing_for(session), browser_for(session)]
    return [session, session.queue, session.presets, *own, library]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> _Built:
    return _Built(tmp_path_factory.mktemp("built"))


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path / "webui")


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine(gated=True)


@pytest.fixture
def session(host: FakeHost, engine: GatedEngine):
    session = Session(host, engine)
    yield session
    session.stop(discard=True)
    session.join(5)


@pytest.fixture
def library() -> FakeBundleLibrary:
    return FakeBundleLibrary()


@pytest.fixture
def page(built: _Built, session: Session, library: FakeBundleLibrary) -> Page:
    built.act_on(session, library)
    return Page(built.blocks)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")
