"""The HTTP API under both hosts' FastAPI and pydantic."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lib_pivotal.app.api import PUBLIC, register
from lib_pivotal.core.config.io import to_dict
from tests.ui.fake_host import good_config

V1 = "/pivotal/v1"


def make_client(session, credentials=None) -> TestClient:
    app = FastAPI()
    register(app, session, credentials or {})
    return TestClient(app)


def test_a_run_over_http(session, engine, pictures):
    client = make_client(session)
    assert client.get(f"{V1}/status").json()["state"] == "idle"
    body = to_dict(good_config(pictures))
    started = client.post(f"{V1}/train", json=body)
    assert started.status_code == 200, started.text
    assert client.post(f"{V1}/train", json=body).status_code == 409
    assert client.post(f"{V1}/save").status_code == 200
    assert client.post(f"{V1}/sample").status_code == 200
    engine.allow(1)
    assert client.post(f"{V1}/stop", json={"discard": False}).status_code == 200
    session.join(5)
    status = client.get(f"{V1}/status").json()
    assert status["task_id"] == started.json()["task_id"]
    assert status["state"] == "stopped"
    assert status["words"] == "<lora:zog-bundle:1> zog"
    assert status["config"] == body


def test_bad_settings_are_listed_completely(session):
    client = make_client(session)
    answer = client.post(f"{V1}/train", json={"rank": -1, "batch_size": 0, "concepts": [{"name": "a,b"}]})
    assert answer.status_code == 422
    fields = {problem["field"] for problem in answer.json()["problems"]}
    assert {"rank", "batch_size", "data_folder", "output_name", "concepts[0].name"} <= fields
    assert all(problem["hint"] for problem in answer.json()["problems"])
    assert answer.json()["message"].startswith("5 problems")
    # A value of a wrong type hides nothing else.
    for route in ("check", "train"):
        body = {"unet_lr": "fast", "concepts": [7, {"name": "a,b"}], "output_name": "x"}
        problems = client.post(f"{V1}/{route}", json=body).json()["problems"]
        found = [problem["field"] for problem in problems]
        assert found == ["unet_lr", "concepts[0]", "concepts[1].name", "data_folder"]
    for body in (["no object"], {"stepps": 3}):
        assert client.post(f"{V1}/train", json=body).status_code == 422
    assert session.status()["state"] == "idle"


def test_check_answers_without_starting(session, pictures):
    client = make_client(session)
    good = client.post(f"{V1}/check", json=to_dict(good_config(pictures))).json()
    assert good["ok"] is True
    bad = client.post(f"{V1}/check", json={"stepps": 3}).json()
    assert bad["ok"] is False
    assert "steps" in bad["problems"][0]["hint"]
    assert session.status()["state"] == "idle"


def test_requests_to_no_run(session):
    client = make_client(session)
    for name in ("stop", "save", "sample"):
        answer = client.post(f"{V1}/{name}")
        assert answer.status_code == 409, name
        assert answer.json()["message"]


@pytest.mark.parametrize("body", [{"discard": "yes"}, [], "text"])
def test_stop_refuses_what_it_does_not_understand(session, body):
    assert make_client(session).post(f"{V1}/stop", json=body).status_code == 422


def test_credentials_are_asked_for(session, pictures, engine):
    client = make_client(session, {"anna": "pa:ss", "bert": "secret"})
    body = to_dict(good_config(pictures))
    for name in ("train", "check", "stop", "save", "sample"):
        assert client.post(f"{V1}/{name}", json=body).status_code == 401, name
        assert client.post(f"{V1}/{name}", json=body, auth=("anna", "ü")).status_code == 401, name
        assert client.post(f"{V1}/{name}", json=body, auth=("nobody", "")).status_code == 401, name
    assert session.status()["state"] == "idle"
    assert client.post(f"{V1}/check", json=body, auth=("anna", "pa:ss")).status_code == 200
    assert client.post(f"{V1}/train", json=body, auth=("bert", "secret")).status_code == 200
    # Without a login the status tells no path, caption or name.
    status = client.get(f"{V1}/status")
    assert set(status.json()) == set(PUBLIC)
    assert "zog" not in status.text
    assert str(pictures.parent) not in status.text
    assert client.get(f"{V1}/status", auth=("anna", "no")).status_code == 401
    assert client.get(f"{V1}/status", auth=("anna", "pa:ss")).json()["config"]["output_name"] == "zog-bundle"


def test_an_unexpected_failure_is_an_answer(session, host, monkeypatch):
    monkeypatch.setattr(host, "taken_names", lambda: 1 / 0)
    answer = make_client(session).post(f"{V1}/check", json={})
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.json()["message"]


def test_the_documentation_names_every_route_and_field(session):
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    client = make_client(session)
    routes = [route.path for route in client.app.routes if route.path.startswith(V1)]
    assert len(routes) == 6
    for word in [*routes, *(f"`{name}`" for name in session.status())]:
        assert word in text, word
