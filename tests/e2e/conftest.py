"""One real webui for the whole suite: starting one takes longer than most tests."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.images import draw
from tests.e2e.recognized_checkpoint import recognized_checkpoints
from tests.e2e.server import Webui, find_installed, find_webui, kind_of, running, version_of

_HERE = Path(__file__).parent
pytest.register_assert_rewrite("tests.e2e.bundle_cases")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a real webui and minutes; some of it only A1111 has."""
    tree = find_webui()
    kind = kind_of(tree) if tree else "a1111"
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            only = item.get_closest_marker("a1111")
            if only and kind not in ("a1111", only.kwargs.get("also")):
                item.add_marker(pytest.mark.skip(reason=f"not in {kind}: {only.args[0]}"))


def pytest_report_header() -> str:
    """Which webui the suite runs in."""
    tree = find_webui()
    return f"webui: {kind_of(tree)} in {tree}" if tree else "webui: none found"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which case holds where: with our extension, and in the webui alone as we claim it."""
    cases, tree = sys.modules.get("tests.e2e.bundle_cases"), find_webui()
    if cases is None or not cases.RESULTS or tree is None:
        return
    kind = kind_of(tree)
    is_claimed = kind == "a1111"
    version = version_of(tree) if is_claimed else ()
    width = max(map(len, cases.RESULTS))
    title = f"Bundles in {kind}" + (f" {'.'.join(map(str, version))}" if is_claimed else "")
    terminalreporter.write_line(f"\n{title:<{width}} | expected of the webui alone | alone | with us")
    expected = {case.name: "fails" if case.fails_alone(version) else "holds" for case in cases.CASES}
    if not is_claimed:
        expected = dict.fromkeys(expected, "–")
    for name, row in cases.RESULTS.items():
        columns = (f"{expected[name]:<28}", f"{row.get('alone', '–'):<5}", row.get("with us", "–"))
        terminalreporter.write_line(" | ".join([f"{name:<{width}}", *columns]))


def _demo_checkpoints(folder: Path) -> list[Path]:
    """The demo's trained bases if they are there."""
    from lib_pivotal.demo import assets

    if not (assets.BASE_A.exists() and assets.BASE_B_UNET.exists()):
        return []
    bases = assets.materialize(folder)
    return [bases.a, bases.b]


def _found() -> tuple[Path, Path]:
    """Tree and interpreter of the webui; skips if there is none."""
    found = find_installed()
    if found is None:
        message = "NO WEBUI FOUND: nothing was tested in a real webui (set PIVOTAL_WEBUI, PIVOTAL_WEBUI_PYTHON)."
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def random_checkpoints(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Checkpoints with random weights: ``random`` and ``other`` (SD1); where they are needed ``sd2``, ``sdxl``.

    Small ones for A1111. Forge and reForge recognize a model by its shapes, see ``recognized_checkpoint``.
    """
    tree, python = _found()
    folder = tmp_path_factory.mktemp("checkpoints")
    # Making these takes many seconds.
    needed = any(
        item.path.name == "test_families.py" and not item.get_closest_marker("skip") for item in request.session.items
    )
    families = ["sd2", "sdxl"] if needed else []
    if kind_of(tree) != "a1111":
        return recognized_checkpoints(folder, families)
    command = [str(python), str(_HERE / "random_checkpoint.py"), str(tree), str(folder), "sd1", *families]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return [folder / f"{name}.safetensors" for name in ("random", "other", *families)]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn images with captions."""
    return draw(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, random_checkpoints: list[Path]) -> Iterator[Webui]:
    """A started webui with our extension, the probe and all checkpoints; every file of the suite uses it.

    Its API requires the credentials of one of two users, which are sent with every request.
    """
    tree, python = _found()
    folder = tmp_path_factory.mktemp("webui")
    demo = _demo_checkpoints(folder / "demo") if kind_of(tree) == "a1111" else []
    checkpoints = [*demo, *random_checkpoints]
    with running(tree, python, folder / "data", checkpoints, arguments=("--api-auth", "u:p,second:q")) as server:
        server.login = ("u", "p")
        yield server


@pytest.fixture(scope="module")
def webui(server: Webui, random_checkpoints: list[Path]) -> Webui:
    """The webui with the demo's trained base selected, or the random one where there is none."""
    trained = server.data / "models" / "Stable-diffusion" / "pivotal-demo-a.safetensors"
    server.choose(trained.stem if trained.exists() else random_checkpoints[0].stem)
    return server


@pytest.fixture
def store(server: Webui) -> Iterator[Callable[[bool], None]]:
    """Chooses whether the webui keeps its model in fp8."""
    tree, _ = find_installed()
    kind = kind_of(tree)
    if kind == "reforge":
        pytest.skip("reForge has fp8 only on its command line, and ignores the setting")
    if kind == "a1111" and version_of(tree) < (1, 8):
        pytest.skip("this webui has no fp8")

    def choose(wanted: bool) -> None:
        if kind in ("forge", "forge-neo"):
            server.post("/pivotal-test/store_in_eight_bits", {"wanted": wanted})
        else:
            server.post("/sdapi/v1/options", {"fp8_storage": "Enable" if wanted else "Disable"})

    yield choose
    choose(False)
    server.pixels("a red circle")
