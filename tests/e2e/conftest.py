"""One real webui for the whole suite."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.images import draw
from tests.e2e.server import Webui, find_python, find_webui, running, version_of

_HERE = Path(__file__).parent
pytest.register_assert_rewrite("tests.e2e.bundle_cases")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a real webui and minutes."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which case holds where: with our extension, and in the webui alone as we claim it."""
    cases, tree = sys.modules.get("tests.e2e.bundle_cases"), find_webui()
    if cases is None or not cases.RESULTS or tree is None:
        return
    version = version_of(tree)
    width = max(map(len, cases.RESULTS))
    title = "Bundles in webui " + ".".join(map(str, version))
    terminalreporter.write_line(f"\n{title:<{width}} | expected of the webui alone | alone | with us")
    expected = {case.name: "fails" if case.fails_alone(version) else "holds" for case in cases.CASES}
    for name, row in cases.RESULTS.items():
        columns = (f"{expected[name]:<28}", f"{row.get('alone', '–'):<5}", row.get("with us", "–"))
        terminalreporter.write_line(" | ".join([f"{name:<{width}}", *columns]))


def _checkpoints(tree: Path, python: Path, folder: Path) -> list[Path]:
    """The demo's trained base if it is there, and a random one."""
    from lib_pivotal.demo import assets

    result = []
    if assets.BASE_A.exists() and assets.BASE_B_UNET.exists():
        bases = assets.materialize(folder / "demo")
        result = [bases.a, bases.b]
    return [*result, *_random_checkpoints(tree, python, folder)]


def _random_checkpoints(tree: Path, python: Path, folder: Path, families: tuple[str, ...] = ("sd1",)) -> list[Path]:
    command = [str(python), str(_HERE / "random_checkpoint.py"), str(tree), str(folder / "random"), *families]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    names = [name for family in families for name in (("random", "other") if family == "sd1" else (family,))]
    return [folder / "random" / f"{name}.safetensors" for name in names]


def _found() -> tuple[Path, Path]:
    """Tree and interpreter of the webui; skips if there is none."""
    tree = find_webui()
    python = find_python(tree) if tree else None
    if tree is None or python is None:
        message = "NO WEBUI FOUND: nothing was tested in a real webui (set PIVOTAL_WEBUI, PIVOTAL_WEBUI_PYTHON)."
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    return tree, python


@pytest.fixture(scope="session")
def random_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small SD1 checkpoints with random weights."""
    tree, python = _found()
    return _random_checkpoints(tree, python, tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn images with captions."""
    return draw(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def all_families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """A webui with a small random checkpoint of each family: ``random``, ``other`` (SD1), ``sd2``, ``sdxl``.

    Its API requires the credentials of one of two users, which are sent with every request.
    """
    tree, python = _found()
    folder = tmp_path_factory.mktemp("families")
    checkpoints = _random_checkpoints(tree, python, folder, ("sd1", "sd2", "sdxl"))
    with running(tree, python, folder / "data", checkpoints, arguments=("--api-auth", "u:p,second:q")) as server:
        server.login = ("u", "p")
        yield server


@pytest.fixture(scope="session")
def webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """A started webui with our extension and the probe."""
    tree, python = _found()
    folder = tmp_path_factory.mktemp("webui")
    with running(tree, python, folder / "data", _checkpoints(tree, python, folder)) as server:
        yield server
