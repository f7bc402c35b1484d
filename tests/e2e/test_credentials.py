"""With credentials for the webui's API, our API requires the same ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.server import Webui

V1 = "/pivotal/v1"
STATUS_OF_ANYBODY = {
    "state", "is_active", "is_stopping", "step", "total_steps", "loss", "seconds_per_step", "eta_s", "losses",
    "validation", "task_id",
}  # fmt: skip


@pytest.fixture
def webui_with_login(server: Webui) -> Iterator[Webui]:
    """The webui, started with two users; the test may log in as anybody."""
    known = server.login
    yield server
    server.login = known


@pytest.mark.parametrize("route", ["check", "data_report", "presets", "train", "stop", "save", "sample"])
@pytest.mark.parametrize("login", [None, ("u", "wrong"), ("nobody", "p"), ("second", "p")])
def test_nothing_can_be_requested_without_the_webuis_credentials(
    webui_with_login: Webui, route: str, login: tuple[str, str] | None
) -> None:
    webui_with_login.login = login
    assert webui_with_login.try_post(f"{V1}/{route}")[0] == 401


def test_the_webuis_credentials_open_it(webui_with_login: Webui) -> None:
    webui_with_login.login = ("u", "p")
    status, answer = webui_with_login.try_post(f"{V1}/check")
    assert status == 200
    assert answer["ok"] is False
    # Accepted; the answer says that no run is active.
    assert webui_with_login.try_post(f"{V1}/stop")[0] == 409
    assert webui_with_login.try_post("/sdapi/v1/refresh-loras")[0] == 200


def test_the_status_without_credentials_has_no_names_or_folders(webui_with_login: Webui) -> None:
    webui_with_login.login = None
    assert set(webui_with_login.get(f"{V1}/status")) == STATUS_OF_ANYBODY
    webui_with_login.login = ("u", "p")
    assert set(webui_with_login.get(f"{V1}/status")) > {*STATUS_OF_ANYBODY, "config", "run_folder"}
