"""Pages of other sites cannot use the API of a real webui; its own page and programs can."""

from __future__ import annotations

import pytest

from tests.e2e.server import Webui

V1 = "/pivotal/v1"


@pytest.mark.parametrize("route", ["check", "train", "stop", "save", "sample"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null", "Content-Type": "text/plain"},
    ],
    ids=str,
)
def test_other_sites_are_refused(webui: Webui, route: str, headers: dict[str, str]) -> None:
    status, answer = webui.try_post(f"{V1}/{route}", headers=headers)
    assert status == 403
    assert "another site" in answer["message"]


def test_the_own_page_and_programs_are_obeyed(webui: Webui) -> None:
    own = {"Origin": webui.url, "Sec-Fetch-Site": "same-origin"}
    for headers in ({}, own, {"Origin": webui.url}):
        status, answer = webui.try_post(f"{V1}/check", headers=headers)
        assert (status, answer["ok"]) == (200, False)
        assert webui.try_post(f"{V1}/stop", headers=headers)[0] == 409


def test_bodies_are_json_of_bounded_length(webui: Webui) -> None:
    assert webui.try_post(f"{V1}/check", headers={"Content-Type": "text/plain"})[0] == 415
    status, answer = webui.try_post(f"{V1}/check", {"sample_prompts": "x" * 2**21})
    assert status == 413
    assert "KiB" in answer["message"]
    status, answer = webui.try_post(f"{V1}/check", {"\ud800": 1, "output_name": "n" * 300})
    assert status == 200
    assert {"output_name", "\\ud800"} <= {problem["field"] for problem in answer["problems"]}
