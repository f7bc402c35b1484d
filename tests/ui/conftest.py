"""The tab on a fake webui, with an engine that the test leads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ui.fake_host import FakeBundleLibrary, FakeHost, GatedEngine, write_images

gradio = pytest.importorskip("gradio", reason="the tab's tests need one of the two Gradio environments")

from lib_pivotal.app.session import Session  # noqa: E402
from lib_pivotal.ui.tab import build_tab  # noqa: E402
from tests.ui.page import Page  # noqa: E402


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
def page(session: Session, library: FakeBundleLibrary) -> Page:
    return Page(build_tab(session, library))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")
