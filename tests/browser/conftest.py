"""A real webui and a real browser; ``--shots`` keeps the images for the README."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.browser.bare_page import gradio_python, serving
from tests.browser.tab_page import DESKTOP, TabPage, find_chromium
from tests.e2e.recognized_checkpoint import recognized_checkpoints
from tests.e2e.server import Webui, find_installed, find_webui, kind_of, running

_HERE = Path(__file__).resolve().parent
_E2E = _HERE.parent / "e2e"
_SHOTS = _HERE.parents[1] / "docs" / "img"
_MAX_BYTES = 100_000
_BARE_WAIT_MS = 15_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shots", action="store_true", help="write the screenshots of docs/img again")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a real webui, a browser and minutes."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


def pytest_report_header() -> str:
    """Which webui the suite runs in."""
    tree = find_webui()
    return f"webui: {kind_of(tree)} in {tree}" if tree else "webui: none found"


def _skip_loudly(reason: str) -> None:
    message = f"{reason}: the page was not tested."
    warnings.warn(message, stacklevel=2)
    pytest.skip(message)


def _checkpoints(tree: Path, python: Path, folder: Path) -> list[Path]:
    """The demo's trained base if it is there, otherwise a random one, which the webui can load."""
    from lib_pivotal.demo import assets

    if kind_of(tree) != "a1111":
        return recognized_checkpoints(folder / "random")
    if assets.BASE_A.exists() and assets.BASE_B_UNET.exists():
        return [assets.materialize(folder / "demo").a]
    command = [str(python), str(_E2E / "random_checkpoint.py"), str(tree), str(folder / "random")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return [folder / "random" / "random.safetensors"]


@pytest.fixture(scope="session")
def webui() -> Iterator[Webui]:
    """A started webui with our extension."""
    found = find_installed()
    if found is None:
        _skip_loudly("NO WEBUI FOUND (set PIVOTAL_WEBUI, PIVOTAL_WEBUI_PYTHON)")
    tree, python = found
    # Not pytest's own folder, whose name would be in the screenshots.
    folder = Path(tempfile.mkdtemp(prefix="webui-"))
    try:
        with running(tree, python, folder / "data", _checkpoints(tree, python, folder)) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def url(webui: Webui) -> str:
    """Where the page is."""
    return webui.url


@pytest.fixture(scope="session")
def browser():
    """Chromium: ``$PIVOTAL_CHROMIUM``, the system's, or playwright's own."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        _skip_loudly("NO PLAYWRIGHT FOUND")
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        except Error:
            _skip_loudly("NO CHROMIUM FOUND (set PIVOTAL_CHROMIUM)")
        yield chromium
        chromium.close()


@pytest.fixture(scope="session", params=[3, 4], ids=["gradio3", "gradio4"])
def bare_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Where the tab is served by a bare Gradio of either version, without a webui, and the folder of its files."""
    python = gradio_python(request.param)
    if python is None:
        _skip_loudly(f"NO GRADIO {request.param} FOUND (run.py makes its environment)")
    folder = tmp_path_factory.mktemp("bare")
    with serving(python, folder) as address:
        yield address, folder


@contextlib.contextmanager
def opened_bare_tab(address: str, browser, script: str = "") -> Iterator[TabPage]:
    """The tab of a bare Gradio in a new page, within the context; ``script`` runs before the page's own ones."""
    context = browser.new_context(viewport=DESKTOP, permissions=["clipboard-read", "clipboard-write"])
    # Gradio's page asks other servers for fonts and a script, and waits for them.
    context.route(lambda url: not url.startswith(address), lambda route: route.abort())
    if script:
        context.add_init_script(script)
    tab = TabPage(context.new_page(), address)
    tab.page.set_default_timeout(_BARE_WAIT_MS)
    yield tab
    context.close()


@pytest.fixture(scope="session")
def bare_tab(bare_server: tuple[str, Path], browser) -> Iterator[TabPage]:
    """The tab under either version of Gradio, in one page for all tests."""
    with opened_bare_tab(bare_server[0], browser) as tab:
        yield tab


@pytest.fixture(scope="session")
def shared_tab(url: str, browser) -> Iterator[TabPage]:
    """One page with the tab: loading the webui's page takes the browser ten seconds of computing."""
    context = browser.new_context(viewport=DESKTOP)
    yield TabPage(context.new_page(), url)
    context.close()


@pytest.fixture
def tab(request: pytest.FixtureRequest, shared_tab: TabPage) -> Iterator[TabPage]:
    """The tab, in a page that earlier tests have used; after a test that fails the page is loaded again."""
    failures = request.session.testsfailed
    shared_tab.errors = []
    shared_tab.page.set_viewport_size(DESKTOP)
    shared_tab.show()
    yield shared_tab
    errors = list(shared_tab.errors)
    if errors or request.session.testsfailed > failures:
        shared_tab.open()
    assert errors == []


@pytest.fixture
def shoot(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Takes a screenshot into docs/img, small enough for the repository, when ``--shots`` is given."""

    def take(page, name: str, **options) -> None:
        if not request.config.getoption("--shots"):
            return
        image = Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")
        _SHOTS.mkdir(parents=True, exist_ok=True)
        path = _SHOTS / f"{name}.png"
        # This method keeps the colors of small things, such as the edge of a message; the default one mixes them.
        method, dither = Image.Quantize.FASTOCTREE, Image.Dither.NONE
        for colors in (256, 128, 64, 32):
            image.quantize(colors, method, dither=dither).save(path, optimize=True)
            if path.stat().st_size <= _MAX_BYTES:
                return
        image = image.resize((image.width * 2 // 3, image.height * 2 // 3))
        image.quantize(64, method, dither=dither).save(path, optimize=True)

    return take
