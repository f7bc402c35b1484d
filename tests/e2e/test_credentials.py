"""A webui whose API asks for credentials: ours asks for the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server import Webui, find_python, find_webui, running

V1 = "/pivotal/v1"
STATUS_OF_ANYBODY = {
    "state", "is_active", "is_stopping", "step", "total_steps", "loss", "seconds_per_step", "eta_s", "losses", "task_id",
}  # fmt: skip


@pytest.fixture(scope="module")
def guarded(random_checkpoints: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """A webui started with two users."""
    tree = find_webui()
    assert tree is not None
    python = find_python(tree)
    assert python is not None
    data = tmp_path_factory.mktemp("guarded") / "data"
    with running(tree, python, data, random_checkpoints[:1], arguments=("--api-auth", "u:p,second:q")) as server:
        yield server


@pytest.mark.parametrize("route", ["check", "train", "stop", "save", "sample"])
@pytest.mark.parametrize("login", [None, ("u", "wrong"), ("nobody", "p"), ("second", "p")])
def test_nothing_can_be_asked_without_the_webuis_credentials(
    guarded: Webui, route: str, login: tuple[str, str] | None
) -> None:
    guarded.login = login
    assert guarded.try_post(f"{V1}/{route}")[0] == 401


def test_the_webuis_credentials_open_it(guarded: Webui) -> None:
    guarded.login = ("u", "p")
    status, answer = guarded.try_post(f"{V1}/check")
    assert status == 200
    assert answer["ok"] is False
    # Let in, and told that there is no run.
    assert guarded.try_post(f"{V1}/stop")[0] == 409
    assert guarded.try_post("/sdapi/v1/refresh-loras")[0] == 200


def test_without_them_the_status_tells_no_names_and_no_folders(guarded: Webui) -> None:
    guarded.login = None
    assert set(guarded.get(f"{V1}/status")) == STATUS_OF_ANYBODY
    guarded.login = ("u", "p")
    assert set(guarded.get(f"{V1}/status")) > {*STATUS_OF_ANYBODY, "config", "run_folder"}
